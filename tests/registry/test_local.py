"""The local registry finds what there is, says what there is not, and survives interruptions."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadynet.bundle.read import Bundle, open_bundle
from steadynet.errors import BundleTampered, RegistryError, UnknownModel, UserError
from steadynet.home import Home
from steadynet.registry.local import Aliases, LocalRegistry, _moved

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def registry(home: Home, make_bundle: MakeBundle) -> LocalRegistry:
    """A registry with payments/1, payments/2 and fraud/1."""
    local = LocalRegistry(home)
    local.add(make_bundle(seed=1), "payments", "1")
    local.add(make_bundle(seed=2), "payments", "2")
    local.add(make_bundle("fraud", seed=3), "fraud", "1")
    return local


def test_an_empty_home_has_nothing(home: Home) -> None:
    local = LocalRegistry(home)
    assert local.names() == ()
    assert local.versions("churn") == ()
    assert local.aliases("churn") == {}
    with pytest.raises(UnknownModel, match="none is registered yet"):
        local.resolve("churn")


def test_the_first_version_becomes_champion_and_stays_it(registry: LocalRegistry) -> None:
    assert registry.names() == ("fraud", "payments")
    assert registry.versions("payments") == ("1", "2")
    assert registry.aliases("payments") == {"champion": "1"}


def test_versions_are_ordered_as_numbers(registry: LocalRegistry, make_bundle: MakeBundle) -> None:
    registry.add(make_bundle(seed=4), "payments", "10")
    assert registry.versions("payments") == ("1", "2", "10")


def test_every_way_to_name_a_version(registry: LocalRegistry, home: Home) -> None:
    registry.set_alias("payments", "challenger", "2")
    folder = home.model("payments") / "2"
    assert registry.resolve("payments").version == "1"
    for reference in ("payments@challenger", "payments/2", str(folder)):
        found = registry.resolve(reference)
        assert (found.name, found.version, found.bundle) == ("payments", "2", folder)
        opened = open_bundle(found.bundle, manifest_sha256=found.manifest_sha256)
        assert opened.manifest.name == "payments"


def test_a_bundle_outside_the_registry_is_named_by_its_digest(
    home: Home, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(seed=5)
    local = LocalRegistry(home)
    found = local.resolve(str(bundle.path))
    assert found.version == bundle.manifest_sha256[:12]
    monkeypatch.chdir(bundle.path.parent)
    assert local.resolve(bundle.path.name).bundle == bundle.path


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("paymets", "Did you mean 'payments'"),
        ("payments/7", "expected one of 1, 2"),
        ("payments/latest", "no version 'latest'"),
        ("payments@champoin", "Did you mean 'champion'"),
        ("payments@shadow", r"champion \(1\)"),
        ("a/b/c", "there is no model"),
        ("../../etc", "not a bundle"),
        ("", "there is no model"),
        ("payments/../../../etc", "there is no model"),
    ],
)
def test_an_unknown_reference_says_what_there_is(
    registry: LocalRegistry, reference: str, message: str
) -> None:
    with pytest.raises(UnknownModel, match=message):
        registry.resolve(reference)


def test_a_moved_alias_remembers_where_it_was(registry: LocalRegistry) -> None:
    registry.set_alias("payments", "champion", "2")
    assert registry.aliases("payments")["champion"] == "2"
    assert registry.previous("payments", "champion") == "1"
    registry.set_alias("payments", "champion", "2")
    assert registry.previous("payments", "champion") == "1", "no move, nothing forgotten"
    assert registry.previous("payments", "challenger") is None


def test_an_alias_can_be_removed(registry: LocalRegistry) -> None:
    registry.set_alias("payments", "challenger", "2")
    registry.set_alias("payments", "challenger", None)
    assert "challenger" not in registry.aliases("payments")
    assert registry.previous("payments", "challenger") == "2"


def test_an_alias_points_to_versions_that_are_here(registry: LocalRegistry) -> None:
    with pytest.raises(UnknownModel, match="no version '9'"):
        registry.set_alias("payments", "champion", "9")


@pytest.mark.parametrize("alias", ["", "1", "v3", "latest", "a b", "a/b", "Ü"])
def test_an_alias_has_a_name_that_mlflow_takes(registry: LocalRegistry, alias: str) -> None:
    with pytest.raises(UserError, match="name for an alias"):
        registry.set_alias("payments", alias, "1")


def test_a_torn_aliases_file_is_an_error_not_an_empty_answer(
    registry: LocalRegistry, home: Home
) -> None:
    (home.model("payments") / "aliases.json").write_text('{"now": {"champ')
    with pytest.raises(RegistryError, match="cannot be read"):
        registry.resolve("payments")


def test_a_version_is_never_replaced(registry: LocalRegistry, make_bundle: MakeBundle) -> None:
    same = make_bundle(seed=6)
    registry.add(same, "payments", "3")
    assert registry.add(same, "payments", "3").version == "3"
    with pytest.raises(RegistryError, match="another bundle"):
        registry.add(make_bundle(seed=7), "payments", "3")


@pytest.mark.parametrize("version", ["0", "01", "-1", "x", "../1", ""])
def test_a_version_is_a_number(
    registry: LocalRegistry, make_bundle: MakeBundle, version: str
) -> None:
    with pytest.raises(RegistryError, match="no version"):
        registry.add(make_bundle(seed=8), "payments", version)


def test_a_bundle_changed_while_it_is_copied_is_not_taken(
    registry: LocalRegistry, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle(seed=9)
    (bundle.path / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleTampered, match=r"model\.onnx was changed"):
        registry.add(bundle, "payments", "3")
    assert registry.versions("payments") == ("1", "2")


def test_unfinished_copies_are_no_versions(registry: LocalRegistry, home: Home) -> None:
    shutil.copytree(home.model("payments") / "1", home.model("payments") / ".3.tmp")
    (home.model("payments") / "4").mkdir()
    assert registry.versions("payments") == ("1", "2")


COPY_AND_DIE = """
import os, signal, sys
from pathlib import Path
from steadynet.bundle import read
from steadynet.bundle.read import open_bundle
from steadynet.files import sha256_file
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
path = Path(sys.argv[1])
bundle = open_bundle(path, manifest_sha256=sha256_file(path / "manifest.json"))
written = 0
def die(event, arguments):
    global written
    if event == "open" and "/.1." in str(arguments[0]) and "w" in str(arguments[1]):
        written += 1
        if written == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
LocalRegistry(Home(Path(sys.argv[2]))).add(bundle, "payments", "1")
"""


@pytest.mark.parametrize("file", [1, 4, 8])
def test_a_registration_killed_while_copying_leaves_no_version(
    home: Home, make_bundle: MakeBundle, file: int
) -> None:
    bundle = make_bundle()
    arguments = [str(bundle.path), str(home.root), str(file)]
    done = subprocess.run([sys.executable, "-c", COPY_AND_DIE, *arguments], timeout=60)
    assert done.returncode == -signal.SIGKILL
    local = LocalRegistry(home)
    assert local.versions("payments") == ()
    assert local.add(bundle, "payments", "1").version == "1", "the dead process holds no lock"


def move_many_times(root: str, alias: str) -> None:
    local = LocalRegistry(Home(Path(root)))
    for turn in range(40):
        local.set_alias("payments", alias, str(1 + turn % 2))


def test_processes_that_move_aliases_at_once_lose_no_move(
    registry: LocalRegistry, home: Home
) -> None:
    context = multiprocessing.get_context("spawn")
    names = ["challenger", "candidate", "trial"]
    workers = [
        context.Process(target=_move_in_process, args=(str(home.root), name)) for name in names
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert registry.aliases("payments") == {"champion": "1"} | dict.fromkeys(names, "2")


def _move_in_process(root: str, alias: str) -> None:
    move_many_times(root, alias)


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["champion", "challenger"]),
            st.sampled_from([None, "1", "2", "3"]),
            st.booleans(),
        )
    )
)
def test_aliases_say_where_they_are_and_were_and_what_is_to_be_published(
    moves: list[tuple[str, str | None, bool]],
) -> None:
    aliases = Aliases()
    history: dict[str, list[str | None]] = {"champion": [None], "challenger": [None]}
    remote: dict[str, str | None] = {}
    for alias, version, published in moves:
        aliases = _moved(aliases, alias, version, published)
        if version != history[alias][-1]:
            history[alias].append(version)
        if published:
            remote[alias] = version
        for name in aliases.unpublished:
            assert aliases.now.get(name) == history[name][-1]
    for alias, places in history.items():
        assert aliases.now.get(alias) == places[-1]
        known = [place for place in places[:-1] if place is not None]
        assert aliases.before.get(alias) == (known[-1] if known else None)
        if alias not in aliases.unpublished:
            assert remote.get(alias) == places[-1]


def test_a_full_disk_leaves_no_version(home: Home, make_bundle: MakeBundle) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from steadynet.bundle.read import open_bundle\nfrom steadynet.files import sha256_file\n"
        "from steadynet.home import Home\nfrom steadynet.registry.local import LocalRegistry\n"
        "path = Path(sys.argv[1])\n"
        "bundle = open_bundle(path, manifest_sha256=sha256_file(path / 'manifest.json'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "LocalRegistry(Home(Path(sys.argv[2]))).add(bundle, 'payments', '1')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(make_bundle().path), str(home.root)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "RegistryError" in done.stderr
    assert "nothing was left behind" in done.stderr
    assert sorted(os.listdir(home.model("payments"))) == [".lock"]
