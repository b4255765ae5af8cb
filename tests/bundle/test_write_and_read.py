"""A bundle is written whole or not at all, and every way to spoil one is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steadynet.bundle.manifest import FILES, MANIFEST, MODEL, SIGNATURE, encode_manifest
from steadynet.bundle.picture import Picture
from steadynet.bundle.profile import decode_profile
from steadynet.bundle.read import MAX_BYTES, Bundle, open_bundle, verify_bundle
from steadynet.bundle.sign import ensure_key, sign_folder, signing_key
from steadynet.bundle.write import BundleDraft, draft_manifest, utc_now, write_bundle
from steadynet.clock import ManualClock
from steadynet.errors import BundleError, BundleFormat, BundleTampered, UserError
from steadynet.files import sha256_bytes, sha256_file
from steadynet.home import Home

MakeBundle = Callable[..., Bundle]


def reopen(bundle: Bundle) -> Bundle:
    return open_bundle(bundle.path, manifest_sha256=bundle.manifest_sha256)


def test_what_was_written_is_read(home: Home, tmp_path: Path, draft: BundleDraft) -> None:
    clock = ManualClock(1_700_000_000.0)
    written = write_bundle(tmp_path / "bundle", draft, ensure_key(home), clock=clock)
    read = verify_bundle(tmp_path / "bundle", signing_key(home).public)
    assert read == written == reopen(written)
    assert read.manifest.created == "2023-11-14T22:13:20Z"
    assert read.manifest.schema == draft.schema
    assert read.golden() == draft.golden
    assert read.profile() == draft.profile
    assert read.read(MODEL) == draft.model == read.model_path.read_bytes()
    assert sorted(os.listdir(read.path)) == sorted([*FILES, MANIFEST, SIGNATURE])
    assert read.manifest_sha256 == sha256_file(read.path / MANIFEST)


def test_the_same_draft_at_the_same_time_has_the_same_digest(
    home: Home, tmp_path: Path, draft: BundleDraft
) -> None:
    digests = {
        write_bundle(tmp_path / name, draft, ensure_key(home), clock=ManualClock()).manifest_sha256
        for name in ("a", "b")
    }
    assert len(digests) == 1


def test_the_first_manifest_of_a_draft_differs_by_its_files_alone(
    tiny_bundle: Bundle, draft: BundleDraft
) -> None:
    created = tiny_bundle.manifest.created
    early = draft_manifest(draft, created=created)
    assert early.files == {}
    late = draft_manifest(draft, created=created, files=tiny_bundle.manifest.files)
    assert late == tiny_bundle.manifest


def test_time_is_written_in_utc() -> None:
    assert utc_now(ManualClock(0.0)) == "1970-01-01T00:00:00Z"


def test_a_bundle_is_never_overwritten(home: Home, tiny_bundle: Bundle, draft: BundleDraft) -> None:
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(tiny_bundle.path, draft, ensure_key(home))
    assert reopen(tiny_bundle)


def test_a_bad_name_is_refused(home: Home, tmp_path: Path, draft: BundleDraft) -> None:
    with pytest.raises(UserError, match="no name for a model"):
        write_bundle(tmp_path / "bundle", replace(draft, name="../x"), ensure_key(home))
    assert not (tmp_path / "bundle").exists()


def test_a_card_that_no_reader_would_take_is_not_written(
    home: Home, tmp_path: Path, draft: BundleDraft
) -> None:
    too_long = replace(draft, card="x" * (MAX_BYTES["README.md"] + 1))
    with pytest.raises(BundleError, match=r"README\.md is too large"):
        write_bundle(tmp_path / "bundle", too_long, ensure_key(home))


def alter(bundle: Bundle, name: str, data: bytes) -> None:
    (bundle.path / name).write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named(tiny_bundle: Bundle, name: str) -> None:
    data = (tiny_bundle.path / name).read_bytes()
    alter(tiny_bundle, name, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleTampered, match=rf"signed: {name} was changed\."):
        reopen(tiny_bundle)


def test_every_problem_is_named_at_once(tiny_bundle: Bundle) -> None:
    alter(tiny_bundle, MODEL, b"short")
    alter(tiny_bundle, "notes.txt", b"extra")
    (tiny_bundle.path / "golden.jsonl").unlink()
    with pytest.raises(BundleTampered) as caught:
        reopen(tiny_bundle)
    for problem in ("model.onnx was changed", "'notes.txt' is extra", "golden.jsonl is missing"):
        assert problem in str(caught.value)
    assert "profile.json" not in str(caught.value)


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, *FILES])
def test_a_missing_file_is_named(tiny_bundle: Bundle, name: str) -> None:
    (tiny_bundle.path / name).unlink()
    with pytest.raises(BundleTampered, match=f"{name} is missing"):
        reopen(tiny_bundle)


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, MODEL])
def test_links_are_refused_though_they_lead_to_the_right_bytes(
    tiny_bundle: Bundle, tmp_path: Path, name: str
) -> None:
    (tiny_bundle.path / name).rename(tmp_path / "elsewhere")
    (tiny_bundle.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleTampered, match=f"{name}.*(no plain file|cannot be read)"):
        reopen(tiny_bundle)


def test_pipes_and_folders_are_refused_and_never_waited_for(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / MANIFEST).unlink()
    os.mkfifo(tiny_bundle.path / MANIFEST)
    (tiny_bundle.path / "profile.json").unlink()
    (tiny_bundle.path / "profile.json").mkdir()
    with pytest.raises(BundleTampered, match=rf"{MANIFEST} is no plain file"):
        reopen(tiny_bundle)


def test_a_file_that_is_too_large_is_not_read(tiny_bundle: Bundle) -> None:
    with (tiny_bundle.path / MANIFEST).open("r+b") as file:
        file.truncate(MAX_BYTES[MANIFEST] + 1)
    with pytest.raises(BundleTampered, match=f"{MANIFEST} is larger"):
        reopen(tiny_bundle)


def test_another_manifest_is_refused_though_its_files_are_right(
    tiny_bundle: Bundle, make_bundle: MakeBundle
) -> None:
    other = make_bundle(seed=1)
    with pytest.raises(BundleTampered, match=rf"{MANIFEST} of .* was changed"):
        open_bundle(other.path, manifest_sha256=tiny_bundle.manifest_sha256)


def resign(bundle: Bundle, home: Home, content: object) -> str:
    """Put a manifest in and sign the folder anew, as its owner could."""
    data = json.dumps(content).encode()
    alter(bundle, MANIFEST, data)
    (bundle.path / SIGNATURE).unlink()
    sign_folder(bundle.path, signing_key(home))
    return sha256_bytes(data)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../model.onnx", "", "model.sig", "manifest.json"]
)
def test_a_manifest_cannot_lead_to_another_file(tiny_bundle: Bundle, home: Home, name: str) -> None:
    content = json.loads((tiny_bundle.path / MANIFEST).read_bytes())
    content["files"][name] = content["files"][MODEL]
    digest = resign(tiny_bundle, home, content)
    with pytest.raises(BundleTampered, match=rf"{MANIFEST} lists"):
        open_bundle(tiny_bundle.path, manifest_sha256=digest)
    with pytest.raises(BundleTampered, match=rf"{MANIFEST} lists"):
        verify_bundle(tiny_bundle.path, signing_key(home).public)


def test_a_manifest_must_list_every_file(tiny_bundle: Bundle, home: Home) -> None:
    content = json.loads((tiny_bundle.path / MANIFEST).read_bytes())
    del content["files"][MODEL]
    digest = resign(tiny_bundle, home, content)
    with pytest.raises(BundleTampered, match=r"does not list model\.onnx"):
        open_bundle(tiny_bundle.path, manifest_sha256=digest)


def test_a_manifest_with_a_name_that_leads_elsewhere_is_refused(
    tiny_bundle: Bundle, home: Home
) -> None:
    content = json.loads((tiny_bundle.path / MANIFEST).read_bytes()) | {"name": "../../home"}
    digest = resign(tiny_bundle, home, content)
    with pytest.raises(BundleFormat, match="bad name"):
        open_bundle(tiny_bundle.path, manifest_sha256=digest)


@pytest.mark.parametrize("content", [[], {}, {"format_version": 2}, {"format_version": 1}, 7])
def test_a_manifest_of_another_format_is_refused(
    tiny_bundle: Bundle, home: Home, content: object
) -> None:
    digest = resign(tiny_bundle, home, content)
    with pytest.raises(BundleFormat, match=MANIFEST):
        open_bundle(tiny_bundle.path, manifest_sha256=digest)


def test_a_changed_bundle_with_fitting_digests_fails_its_signature(
    tiny_bundle: Bundle, make_bundle: MakeBundle, home: Home
) -> None:
    """Whoever changes a file and the manifest too is found out by the signature alone."""
    other = make_bundle(seed=1)
    for name in (*FILES, MANIFEST):
        alter(tiny_bundle, name, (other.path / name).read_bytes())
    with pytest.raises(BundleTampered, match=f"{SIGNATURE} does not verify"):
        verify_bundle(tiny_bundle.path, signing_key(home).public)


def test_another_key_does_not_verify(tiny_bundle: Bundle, tmp_path: Path) -> None:
    stranger = ensure_key(Home(tmp_path / "other"))
    with pytest.raises(BundleTampered, match="another key"):
        verify_bundle(tiny_bundle.path, stranger.public)


@pytest.mark.parametrize("path", ["nothing", "file"])
def test_what_is_no_bundle_is_a_users_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a bundle"):
        verify_bundle(tmp_path / path, tmp_path / "key")


def test_a_file_exchanged_after_opening_is_not_used(
    tiny_bundle: Bundle, make_bundle: MakeBundle
) -> None:
    opened = reopen(tiny_bundle)
    other = make_bundle(task="regression")
    alter(tiny_bundle, "profile.json", (other.path / "profile.json").read_bytes())
    assert decode_profile((opened.path / "profile.json").read_bytes())
    with pytest.raises(BundleTampered, match=r"profile\.json was changed"):
        opened.profile()
    (opened.path / "golden.jsonl").unlink()
    with pytest.raises(BundleTampered, match=r"golden\.jsonl cannot be read"):
        opened.golden()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_flipped_bit_of_any_file_goes_unnoticed(
    tiny_bundle: Bundle, home: Home, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([*FILES, MANIFEST]))
    path = tiny_bundle.path / name
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    flipped = original[position] ^ (1 << data.draw(st.integers(0, 7)))
    try:
        path.write_bytes(original[:position] + bytes([flipped]) + original[position + 1 :])
        with pytest.raises(BundleError):
            verify_bundle(tiny_bundle.path, signing_key(home).public)
        with pytest.raises(BundleError):
            reopen(tiny_bundle)
    finally:
        path.write_bytes(original)


WRITE = """
import pickle, sys
from pathlib import Path
from steadynet.bundle.read import open_bundle
from steadynet.bundle.sign import ensure_key
from steadynet.bundle.write import BundleDraft, write_bundle
from steadynet.files import sha256_file
from steadynet.home import Home
home, source, target = Home(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
bundle = open_bundle(source, manifest_sha256=sha256_file(source / "manifest.json"))
m = bundle.manifest
draft = BundleDraft(
    name=m.name, schema=m.schema, model=bundle.read("model.onnx"), profile=bundle.profile(),
    golden=bundle.golden(), weights=bundle.read("weights.safetensors"),
    training=bundle.read("training.json"), card=bundle.read("README.md").decode(),
    metrics=m.metrics, references=m.references, provenance=m.provenance,
)
key = ensure_key(home)
"""

FULL_DISK = (
    WRITE
    + """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
write_bundle(target, draft, key)
"""
)


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("limit", [1, 500, 2000])
def test_a_full_disk_leaves_nothing_behind(
    home: Home, tiny_bundle: Bundle, tmp_path: Path, limit: int
) -> None:
    target = tmp_path / "target" / "bundle"
    done = run(FULL_DISK, home.root, tiny_bundle.path, target, limit)
    assert "BundleError: the bundle cannot be written" in done.stderr
    assert "Make room" in done.stderr
    assert list(target.parent.iterdir()) == []


KILLED = (
    WRITE
    + """
import os, signal
opened = 0
def die(event, arguments):
    global opened
    if event in ("open", "os.rename") and "/.bundle." in str(arguments[0]):
        opened += 1
        if opened == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
write_bundle(target, draft, key)
sys.stdout.write(str(opened))
"""
)


def test_a_writer_killed_at_any_moment_leaves_no_bundle(
    home: Home, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    last = tmp_path / "whole" / "bundle"
    moments = int(run(KILLED, home.root, tiny_bundle.path, last, -1).stdout)
    assert verify_bundle(last, signing_key(home).public)
    assert moments > 20, "files are opened to be written, digested, signed, checked and synced"
    for moment in (1, 5, 8, 9, 12, moments // 2, moments - 1, moments):
        target = tmp_path / f"target{moment}" / "bundle"
        done = run(KILLED, home.root, tiny_bundle.path, target, moment)
        assert done.returncode == -signal.SIGKILL
        assert not target.exists() or verify_bundle(target, signing_key(home).public)


def test_the_manifest_is_readable_by_people(tiny_bundle: Bundle) -> None:
    text = (tiny_bundle.path / MANIFEST).read_text()
    assert text == encode_manifest(tiny_bundle.manifest).decode()
    assert text.startswith('{\n  "')


@pytest.fixture
def illustrated(home: Home, tmp_path: Path, draft: BundleDraft) -> Bundle:
    """A bundle with two pictures."""
    pictures = tuple(
        Picture(name=name, title=name, alt=name, svg=f"<svg>{name}</svg>".encode())
        for name in ("roc", "importance")
    )
    with_pictures = replace(draft, pictures=pictures)
    return write_bundle(tmp_path / "illustrated", with_pictures, ensure_key(home))


def test_pictures_are_listed_read_and_signed(illustrated: Bundle, home: Home) -> None:
    read = verify_bundle(illustrated.path, signing_key(home).public)
    assert read.pictures == ("pictures/importance.svg", "pictures/roc.svg")
    assert read.read("pictures/roc.svg") == b"<svg>roc</svg>"
    present = {str(path.relative_to(read.path)) for path in read.path.rglob("*") if path.is_file()}
    assert set(read.files) == present


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "pictures/roc.svg").write_text("<svg/>"), "pictures/roc.svg was changed"),
        (lambda p: (p / "pictures/roc.svg").unlink(), "pictures/roc.svg is missing"),
        (lambda p: (p / "pictures/more.svg").write_text(""), "'pictures/more.svg' is extra"),
        (lambda p: (p / "pictures/deep").mkdir(), "'pictures/deep' is extra"),
        (lambda p: shutil.rmtree(p / "pictures"), "pictures/importance.svg is missing"),
    ],
)
def test_every_way_to_spoil_a_picture_is_named(
    illustrated: Bundle, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(illustrated.path)
    with pytest.raises(BundleTampered, match=re.escape(said)):
        reopen(illustrated)


def test_links_to_pictures_and_to_their_folder_are_refused(
    illustrated: Bundle, tmp_path: Path
) -> None:
    picture = illustrated.path / "pictures/roc.svg"
    picture.rename(tmp_path / "roc.svg")
    picture.symlink_to(tmp_path / "roc.svg")
    with pytest.raises(BundleTampered, match=r"roc\.svg is no plain file"):
        reopen(illustrated)
    (illustrated.path / "pictures").rename(tmp_path / "away")
    (illustrated.path / "pictures").symlink_to(tmp_path / "away")
    with pytest.raises(BundleTampered, match="is missing"):
        reopen(illustrated)


def test_a_folder_of_pictures_that_no_manifest_lists_is_extra(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / "pictures").mkdir()
    with pytest.raises(BundleTampered, match="'pictures' is extra"):
        reopen(tiny_bundle)
    (tiny_bundle.path / "pictures/a.svg").write_text("<svg/>")
    with pytest.raises(BundleTampered, match=r"'pictures/a\.svg' is extra"):
        reopen(tiny_bundle)


@pytest.mark.parametrize("name", ["pictures/../model.onnx", "pictures/A.svg", "pictures/a.png"])
def test_a_manifest_lists_pictures_alone_beside_its_files(illustrated: Bundle, name: str) -> None:
    raw = json.loads((illustrated.path / MANIFEST).read_bytes())
    raw["files"][name] = raw["files"]["pictures/roc.svg"]
    (illustrated.path / MANIFEST).write_text(json.dumps(raw))
    digest = sha256_file(illustrated.path / MANIFEST)
    with pytest.raises(BundleTampered, match="lists"):
        open_bundle(illustrated.path, manifest_sha256=digest)
