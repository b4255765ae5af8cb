"""Small bodies that stand for much: they are refused before any of it is made."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from steadynet.errors import InputError, SteadynetError
from steadynet.serving.answers import HttpError, error_answer
from steadynet.serving.arrow import read_body
from steadynet.serving.arrow_messages import MAX_MESSAGES, Bounds
from steadynet.spec.kinds import Kind

KINDS: dict[str, set[Kind]] = {"amount": {"number"}, "country": {"category"}, "day": {"datetime"}}
BOUNDS = Bounds(max_rows=100_000, max_bytes=16_000_000)


def arrow_of(table: pa.Table, *, is_file: bool = False, **options: Any) -> bytes:
    """Return a table as a stream or a file."""
    sink = io.BytesIO()
    opened = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with opened(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def stream_of(batch: pa.RecordBatch, count: int) -> bytes:
    """Return a record batch so many times, with its dictionaries anew for each."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(count):
            writer.write_batch(batch)
    return sink.getvalue()


def with_dictionary(rows: int, entries: list[str]) -> pa.RecordBatch:
    """Return rows that all name the first of the entries."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(entries))
    return pa.record_batch({"country": column})


def views_of_one_text(rows: int, text: str) -> pa.RecordBatch:
    """Return a column of string views that all lie on one text."""
    _, one, held = pa.array([text], pa.string_view()).buffers()
    views = pa.py_buffer(one.to_pybytes()[:16] * rows)
    column = pa.Array.from_buffers(pa.string_view(), rows, [None, views, held])
    return pa.record_batch({"country": column})


LONG = "x" * 1_000_000
ROWS, DECODED = "too many rows", "once they are decoded"
NULLS = pa.table({"amount": pa.nulls(10**9)})
TEXTS = pa.table({"country": [LONG] * 17})
EMPTY = pa.record_batch({"amount": [0.0]})[:0]
WIDE = pa.schema({f"c{at}": pa.null() for at in range(10_001)})
LARGE: list[tuple[str, bytes, bool]] = [
    (ROWS, arrow_of(NULLS), False),
    (ROWS, arrow_of(NULLS, is_file=True), True),
    (ROWS, stream_of(pa.record_batch({"amount": pa.nulls(60_000)}), 2), False),
    (DECODED, arrow_of(TEXTS, compression="zstd"), False),
    (DECODED, arrow_of(TEXTS, compression="lz4", is_file=True), True),
    (DECODED, stream_of(with_dictionary(50_000, [LONG]), 1), False),
    (DECODED, stream_of(with_dictionary(1, [LONG, "x"]), 15), False),
    (DECODED, stream_of(views_of_one_text(50_000, LONG), 1), False),
    ("too many parts", stream_of(EMPTY, MAX_MESSAGES + 1), False),
    ("too many columns", WIDE.serialize().to_pybytes(), False),
]


@pytest.fixture
def pool() -> Iterator[pa.MemoryPool]:
    """Count what Arrow allocates."""
    before = pa.default_memory_pool()
    own = pa.proxy_memory_pool(before)
    pa.set_memory_pool(own)
    yield own
    pa.set_memory_pool(before)


@pytest.mark.parametrize(("words", "body", "is_file"), LARGE)
def test_a_small_body_that_stands_for_much_is_refused_before_it_is_made(
    pool: pa.MemoryPool, words: str, body: bytes, is_file: bool
) -> None:
    with pytest.raises((SteadynetError, HttpError), match=words) as caught:
        read_body(body, KINDS, BOUNDS, is_file=is_file)
    error = caught.value
    assert isinstance(error, SteadynetError | HttpError)
    assert error_answer(error).status == 413
    assert pool.max_memory() < 1_000_000


def test_a_file_whose_message_calls_itself_longer_than_it_is_takes_no_memory(
    pool: pa.MemoryPool,
) -> None:
    body = arrow_of(pa.table({"amount": np.zeros(100), "country": ["x"] * 100}), is_file=True)
    source = pa.ipc.open_file(body)
    length = pa.ipc.read_message(source.get_batch(0).serialize()).body.size
    lie = body.replace(length.to_bytes(8, "little"), (2**40).to_bytes(8, "little"), 1)
    assert lie != body
    with pytest.raises(InputError, match="another length"):
        read_body(lie, {"amount": {"number"}}, BOUNDS, is_file=True)
    assert pool.max_memory() < 1_000_000


def test_numbers_keep_a_body_alive_only_where_most_of_it_is_read() -> None:
    amounts = np.arange(1_000, dtype=np.float32)
    for unread, is_view in ((0, True), (1_000, False)):
        more = {"unread": ["x" * unread] * 1_000} if unread else {}
        body = arrow_of(pa.table({"amount": amounts, **more}))
        found, _ = read_body(body, KINDS, BOUNDS, is_file=False)
        assert isinstance(found["amount"], np.ndarray)
        assert found["amount"].flags.owndata != is_view
        np.testing.assert_array_equal(found["amount"], amounts)


def test_a_footer_that_calls_rows_a_dictionary_is_refused() -> None:
    body = bytearray(arrow_of(pa.table({"amount": [0.5]}), is_file=True))
    end = len(body) - 10
    start = end - int.from_bytes(body[end : end + 4], "little")
    root = start + int.from_bytes(body[start : start + 4], "little")
    offsets = root - int.from_bytes(body[root : root + 4], "little", signed=True)
    dictionaries, batches = slice(offsets + 8, offsets + 10), slice(offsets + 10, offsets + 12)
    body[dictionaries], body[batches] = body[batches], body[dictionaries]
    with pytest.raises(InputError, match="another number of rows"):
        read_body(bytes(body), KINDS, BOUNDS, is_file=True)


def test_what_lies_behind_a_missing_text_is_not_looked_at() -> None:
    words = ["long enough to lie apart", "x", "another that lies apart"]
    _, views, held = pa.array(words, pa.string_view()).buffers()
    astray = views.to_pybytes()[:16] + b"\x7f" * 16 + views.to_pybytes()[32:]
    column = pa.Array.from_buffers(
        pa.string_view(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(astray), held]
    )
    body = arrow_of(pa.table({"country": column}))
    found, _ = read_body(body, KINDS, BOUNDS, is_file=False)
    assert found["country"] == [words[0], None, words[2]]


def test_values_that_take_no_bytes_are_bounded_too() -> None:
    body = arrow_of(pa.table({name: pa.nulls(90_000) for name in KINDS}))
    with pytest.raises(HttpError, match=DECODED):
        read_body(body, KINDS, Bounds(100_000, 200_000), is_file=False)
    table, rows = read_body(body, KINDS, Bounds(100_000, 270_000), is_file=False)
    assert rows == 90_000
    assert table["country"] == [None] * 90_000


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("is_file", [False, True])
def test_what_is_compressed_within_its_bounds_is_read(codec: str, is_file: bool) -> None:
    table = pa.table(
        {"amount": [0.5, None] * 500, "country": pa.array(["DE", "FR"] * 500).dictionary_encode()}
    )
    body = arrow_of(table, is_file=is_file, compression=codec)
    assert len(body) < 2_500
    found, rows = read_body(body, KINDS, Bounds(1_000, 14_000), is_file=is_file)
    assert rows == 1_000
    np.testing.assert_array_equal(found["amount"], [0.5, np.nan] * 500)
    assert found["country"] == ["DE", "FR"] * 500
    with pytest.raises(HttpError, match=DECODED):
        read_body(body, KINDS, Bounds(1_000, 12_000), is_file=is_file)


def test_every_cut_of_a_body_is_read_whole_or_refused() -> None:
    texts = pa.array(["DE", "x" * 20], pa.string_view())
    table = pa.table({"amount": [0.5, None], "country": texts})
    for is_file in (False, True):
        body = arrow_of(table, is_file=is_file)
        for end in range(len(body)):
            try:
                _, rows = read_body(body[:end], KINDS, BOUNDS, is_file=is_file)
            except InputError:
                continue
            # A stream may end where its sender stops; all of its rows have come by then.
            assert rows == 2
            assert not is_file


def test_what_follows_a_stream_is_refused() -> None:
    body = arrow_of(pa.table({"amount": [0.5]}))
    for more in (b"x", body):
        with pytest.raises(InputError, match="behind the end"):
            read_body(body + more, KINDS, BOUNDS, is_file=False)


def mutated(body: bytes, chance: random.Random) -> bytes:
    """Return a body with some of its bytes changed, taken out or put in."""
    changed = bytearray(body)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(changed))
        change = chance.randrange(5)
        if change == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            at &= ~3
            changed[at : at + 4] = chance.choice([0, 1, 2**31 - 1, 2**32 - 1]).to_bytes(4, "little")
        elif change == 2:
            at &= ~7
            changed[at : at + 8] = chance.choice([0, 2**31, 2**62, 2**64 - 1]).to_bytes(8, "little")
        elif change == 3:
            del changed[at : at + chance.choice([1, 8])]
        else:
            changed[at:at] = changed[at : at + 8]
    return bytes(changed)


def test_bytes_that_only_look_like_arrow_are_refused_and_nothing_else_happens() -> None:
    table = pa.table(
        {
            "amount": pa.array([1, None, 3], pa.decimal128(9, 2)),
            "country": pa.array(["DE", None, "DE"]).dictionary_encode(),
            "day": pa.array([0, None, 1], pa.date32()),
            "lists": [[1], [], None],
        }
    )
    views = pa.table({"country": pa.array(["DE", None, "x" * 30], pa.string_view())})
    bodies = [
        (arrow_of(each, is_file=is_file, compression=codec), is_file)
        for each in (table, views)
        for is_file in (False, True)
        for codec in (None, "zstd")
    ]
    chance = random.Random(31)
    found = Counter[int]()
    for number in range(1_500):
        body, is_file = bodies[number % len(bodies)]
        try:
            read_body(mutated(body, chance), KINDS, BOUNDS, is_file=is_file)
            found[200] += 1
        except (SteadynetError, HttpError) as error:
            found[error_answer(error).status] += 1
    assert set(found) <= {200, 400, 413}
    assert found[400] > 500
