"""The journal's invariants: any change, removal or insertion is found."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadynet.control.journal import GENESIS, JournalEntry, find_breaks, make_entry

texts = st.text(max_size=20)


def chain(sentences: list[str]) -> list[JournalEntry]:
    entries: list[JournalEntry] = []
    previous = GENESIS
    for number, text in enumerate(sentences, start=1):
        entry = make_entry(
            model="churn",
            number=number,
            at=1000.0 + number / 7,
            kind="test",
            text=text,
            data_json=f'{{"n":{number}}}',
            previous=previous,
        )
        entries.append(entry)
        previous = entry.digest
    return entries


def head_of(entries: list[JournalEntry]) -> tuple[int, str] | None:
    return (entries[-1].number, entries[-1].digest) if entries else None


@given(st.lists(texts, max_size=8))
def test_an_untouched_chain_is_whole(sentences: list[str]) -> None:
    entries = chain(sentences)
    assert find_breaks(entries, head_of(entries)) == []


@given(st.lists(texts, min_size=1, max_size=8), st.data())
def test_any_changed_field_is_found(sentences: list[str], data: st.DataObject) -> None:
    entries = chain(sentences)
    head = head_of(entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    field = data.draw(st.sampled_from(["model", "at", "kind", "text", "data_json", "previous"]))
    changed = 0.5 if field == "at" else "something else"
    entries[place] = msgspec.structs.replace(entries[place], **{field: changed})
    assert any(f"entry {place + 1} " in problem for problem in find_breaks(entries, head))


@given(st.lists(texts, min_size=1, max_size=8), st.data())
def test_a_removed_entry_is_found(sentences: list[str], data: st.DataObject) -> None:
    entries = chain(sentences)
    head = head_of(entries)
    del entries[data.draw(st.integers(0, len(entries) - 1))]
    assert find_breaks(entries, head)


@given(st.lists(texts, min_size=2, max_size=8), st.data())
def test_a_rewritten_entry_with_a_fitting_digest_breaks_the_next(
    sentences: list[str], data: st.DataObject
) -> None:
    entries = chain(sentences)
    place = data.draw(st.integers(0, len(entries) - 2))
    old = entries[place]
    entries[place] = make_entry(
        model=old.model,
        number=old.number,
        at=old.at,
        kind=old.kind,
        text=old.text + "!",
        data_json=old.data_json,
        previous=old.previous,
    )
    problems = find_breaks(entries, head_of(entries))
    assert problems == [f"entry {place + 2} does not follow entry {place + 1}"]


def test_an_inserted_entry_is_found() -> None:
    entries = chain(["a", "b", "c"])
    entries.insert(1, entries[1])
    assert find_breaks(entries, head_of(entries))


@pytest.mark.parametrize("head", [None, (2, GENESIS)])
def test_a_head_that_does_not_fit_is_found(head: tuple[int, str] | None) -> None:
    assert find_breaks(chain(["a", "b"]), head)


def test_data_is_what_was_digested() -> None:
    assert chain(["a"])[0].data == {"n": 1}
