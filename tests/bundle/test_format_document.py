"""`FORMAT.md` says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import steadynet.bundle
from steadynet.bundle import manifest as manifest_module
from steadynet.bundle.golden import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from steadynet.bundle.manifest import Manifest, Provenance, TargetRecord
from steadynet.bundle.profile import OutputProfile, Profile, TargetProfile
from steadynet.bundle.read import MAX_BYTES, Bundle
from steadynet.bundle.sign import signing_key
from steadynet.home import Home
from steadynet.runtime.graph_check import KNOWN_DOMAINS
from steadynet.table.schema import RESERVED_NAMES, Column, Schema, Target


@pytest.fixture(scope="module")
def document() -> str:
    """The specification's text."""
    package = Path(str(steadynet.bundle.__file__)).parent
    return (package / "FORMAT.md").read_text()


def test_every_file_has_its_limit(document: str) -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) (MiB|GiB) \|", document, re.MULTILINE)
    sizes = {name: int(size) * 2 ** (20 if unit == "MiB" else 30) for name, size, unit in rows}
    assert sizes == MAX_BYTES


def test_every_key_of_the_manifest_is_explained(document: str) -> None:
    section = document.split("## `manifest.json`")[1].split("\n## ")[0]
    table = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert set(table) == set(Manifest.__struct_fields__)
    for struct in (Provenance, Column, Target, Schema, TargetRecord):
        for name in struct.__struct_fields__:
            assert f"`{name}`" in section, f"{struct.__name__}.{name}"
    first, second = manifest_module.KNOWN_VERSIONS
    assert document.splitlines()[0].endswith(f"versions {first} and {second}")


def test_every_key_of_the_profile_is_explained(document: str) -> None:
    section = document.split("## `profile.json`")[1].split("\n## ")[0]
    for struct in (Profile, OutputProfile, TargetProfile):
        for name in struct.__struct_fields__:
            assert f"`{name}`" in section, f"{struct.__name__}.{name}"


def test_names_and_domains_are_the_codes(document: str) -> None:
    section = document.split("## `model.onnx`")[1].split("\n## ")[0]
    for name in RESERVED_NAMES:
        assert f"`{name}`" in section
    for domain in KNOWN_DOMAINS:
        assert f"`{domain}`" in section or f'`"{domain}"`' in section
    assert (ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE) == (1e-5, 1e-4)
    assert "10⁻⁵ + 10⁻⁴·|expected|" in document


def test_the_command_that_verifies_works(document: str, tiny_bundle: Bundle, home: Home) -> None:
    [command] = re.findall(r"^model_signing (.*)$", document, re.MULTILINE)
    words = command.replace("<bundle>", str(tiny_bundle.path)).split()
    words = [str(signing_key(home).public) if word == "signing.pub.pem" else word for word in words]
    verify = [sys.executable, "-m", "model_signing", *words]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (tiny_bundle.path / "README.md").write_text("other")
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0


def test_the_manifest_has_no_key_that_a_reader_would_refuse(tiny_bundle: Bundle) -> None:
    raw = msgspec.json.decode((tiny_bundle.path / "manifest.json").read_bytes())
    assert set(raw) <= set(Manifest.__struct_fields__)
