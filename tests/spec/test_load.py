"""Loading `steadynet.toml`: strict, with the path in every error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from steadynet.errors import SpecError
from steadynet.spec.describe import describe_type, describe_value, is_struct, key_docs, keys_of
from steadynet.spec.load import load_spec, spec_of
from steadynet.spec.model import Spec
from steadynet.spec.names import did_you_mean, nearest


def write(folder: Path, text: str) -> Path:
    """Write a spec file."""
    path = folder / "steadynet.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_declared_is_all_defaults(tmp_path: Path) -> None:
    assert load_spec(None) == Spec()
    assert load_spec(write(tmp_path, "")) == Spec()


def test_a_file_with_keys_of_each_type(tmp_path: Path) -> None:
    spec = load_spec(
        write(
            tmp_path,
            """
            name = "churn"
            [table]
            target = "Churn"
            drop = ["a b", "c"]
            kinds = { zip = "category" }
            [training]
            learning_rate = 1
            time_limit_s = 60.5
            [rollout]
            steps = [0.25, 0.5]
            on_timeout = "hold"
            [gates.minimum]
            auc = 0.7
            """,
        )
    )
    assert spec.name == "churn"
    assert spec.table.drop == ("a b", "c")
    assert spec.table.kinds == {"zip": "category"}
    assert spec.training.learning_rate == 1.0
    assert spec.rollout.steps == (0.25, 0.5)
    assert spec.gates.minimum == {"auc": 0.7}


def test_overrides_count_more_than_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[table]\ntarget = "a"\n[split]\nseed = 3\n')
    spec = load_spec(path, {"table.target": "b", "serve.port": 9000, "name": "m"})
    assert (spec.table.target, spec.split.seed, spec.serve.port, spec.name) == ("b", 3, 9000, "m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nwdith = 3", r"training\.wdith is not a known key.*Did you mean 'width'"),
        ("[trainig]\n", r"^trainig is not a known key.*Did you mean 'training'"),
        ("[table]\nxyzzy = 1", r"table\.xyzzy .*a key of \[table\]: target, task"),
        ('[training]\ndepth = "2"', r"training\.depth .*a whole number; got the text '2'"),
        ("[training]\ndepth = 2.5", r"training\.depth .*a whole number; got the number 2\.5"),
        ("[heal]\nenabled = 1", r"heal\.enabled .*true or false; got the number 1"),
        ("[table]\ndrop = 'a'", r"table\.drop .*a list, each a text; got the text 'a'"),
        ("[table]\ndrop = [1]", r"table\.drop .*a list, each a text; got a list with"),
        ("[rollout]\non_timeout = 'wait'", r"rollout\.on_timeout .*one of 'hold', 'abort'"),
        ("[heal]\non = ['drift', 'rain']", r"heal\.on .*one of 'drift', 'quality'"),
        ("[table.kinds]\nage = 'numeric'", r"table\.kinds .*each value one of 'number'"),
        ("table = 3", r"^table is of the wrong type.*a table of keys; got the number 3"),
        ("[split]\ntime_column = false", r"split\.time_column .*a text; got false"),
        ("[gates]\nminimum = { auc = 'high' }", r"gates\.minimum .*each value a number"),
        ("name = ", "is not valid TOML"),
        ("[split]\nseed = 1\nseed = 2", "is not valid TOML"),
    ],
)
def test_what_does_not_fit_is_named_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(write(tmp_path, text))


def test_overrides_are_as_strict_as_the_file() -> None:
    with pytest.raises(SpecError, match=r"training\.epochs.*Did you mean 'max_epochs'"):
        load_spec(None, {"training.epochs": 3})
    with pytest.raises(SpecError, match=r"training\.depth is of the wrong type"):
        load_spec(None, {"training.depth": "3"})
    with pytest.raises(SpecError, match="name is not a table"):
        load_spec(None, {"name": "m", "name.first": "x"})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"there is no file.*steadynet init"):
        load_spec(tmp_path / "no.toml")
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    with pytest.raises(SpecError, match="UTF-8"):
        load_spec(tmp_path / "latin.toml")


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "steadynet.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "m"\n')
    assert load_spec(path).name == "m"


def every_key() -> list[tuple[str, Any]]:
    """Return every dotted key of the spec with its type."""
    keys = []
    for table, wanted in keys_of(Spec).items():
        if is_struct(wanted):
            keys += [(f"{table}.{key}", inner) for key, inner in keys_of(wanted).items()]
        else:
            keys.append((table, wanted))
    return keys


@pytest.mark.parametrize(("path", "wanted"), every_key())
def test_every_key_refuses_an_object(path: str, wanted: object) -> None:
    plain: dict[str, object] = {}
    table, _, key = path.rpartition(".")
    if table:
        plain[table] = {key: object()}
    else:
        plain[key] = object()
    with pytest.raises(SpecError, match=f"^{path} is of the wrong type"):
        spec_of(plain)
    assert describe_type(wanted) != "a table of keys"


def test_a_spec_that_went_through_plain_values_is_the_same() -> None:
    plain = msgspec.to_builtins(Spec(name="m"))
    assert spec_of(plain) == Spec(name="m")


def test_docs_of_keys_are_read_from_the_source() -> None:
    docs = key_docs()
    assert all(wanted in docs for wanted in keys_of(Spec).values() if is_struct(wanted))
    for struct, texts in docs.items():
        assert set(texts) <= set(keys_of(struct))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("x", "the text 'x'"),
        ("x" * 50, "a long text"),
        (True, "true"),
        (2, "the number 2"),
        ({}, "a table"),
        ([], "an empty list"),
        (None, "nothing"),
        (b"", "a bytes"),
    ],
)
def test_values_in_words(value: object, words: str) -> None:
    assert describe_value(value) == words


def test_the_nearest_name() -> None:
    known = ["TotalCharges", "tenure", "MonthlyCharges"]
    assert nearest("totalcharges", known) == "TotalCharges"
    assert did_you_mean("tenur", known) == "Did you mean 'tenure'?"
    assert did_you_mean("zzz", known) is None
    assert nearest("x", []) is None
