"""The journal's anchor: its newest entry, signed with the home's key, kept beside the database.

The chain shows that an entry was changed, but whoever can write the database can write a whole
chain anew. What was signed stays as it was: `steadynet verify --journal` looks for it.

Invariants:
- An anchor names an entry that was committed before it was signed.
- A machine without the private key signs nothing; its journal is a chain alone, and `verify` says
  so.
"""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec

from steadynet.bundle.sign import signing_key
from steadynet.clock import Clock, SystemClock
from steadynet.control.journal import JournalEntry, find_breaks, find_forgery
from steadynet.control.store import Store
from steadynet.control.stories import duration
from steadynet.errors import StoreError
from steadynet.files import write_atomic
from steadynet.home import Home

SOON_S = 300.0
"""A journal that began longer ago has been signed if its controller ran."""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """One entry's number and digest, signed."""

    model: str
    number: int
    digest: str
    signature: str
    """ECDSA with SHA-256 over the JSON of the other fields, in base64."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one journal."""

    model: str
    entries: int
    signed: int
    """Number of the newest signed entry; 0 where none is."""
    unsigned: str = ""
    """Why none is, where none is; no problem by itself."""
    problems: tuple[str, ...] = ()


def anchor_path(home: Home, model: str) -> Path:
    """Return where a journal's anchor is kept; the home's own journal has one too."""
    return home.root / "journal" / f"{model}.json"


def sign_head(home: Home, model: str, number: int, digest: str) -> bool:
    """Sign an entry that is committed; False where this machine has no private key."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = signing_key(home).private
    if not private.exists():
        return False
    key = load_pem_private_key(private.read_bytes(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey), "the home's key is on a curve"
    signature = key.sign(_signed(model, number, digest), ECDSA(hashes.SHA256()))
    anchor = Anchor(
        model=model,
        number=number,
        digest=digest,
        signature=base64.b64encode(signature).decode(),
    )
    write_atomic(anchor_path(home, model), msgspec.json.encode(anchor) + b"\n")
    return True


def check_journals(
    home: Home, models: tuple[str, ...] = (), *, clock: Clock | None = None
) -> list[Checked]:
    """Check the named journals, or all of them; the home's own goes by `@home`."""
    now = (clock or SystemClock()).now()
    with Store.of(home) as store:
        with store.read() as tx:
            known = tx.journal.models()
        folder = home.root / "journal"
        anchored = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
        return [_check(home, store, model, now) for model in models or sorted({*known, *anchored})]


def _check(home: Home, store: Store, model: str, now: float) -> Checked:
    with store.read() as tx:
        entries = list(tx.journal.all(model))
        problems = find_breaks(entries, tx.journal.head(model))
    anchor, wrong = _read(home, model)
    if anchor is not None:
        wrong += find_forgery(entries, (anchor.number, anchor.digest))
    return Checked(
        model=model,
        entries=len(entries),
        signed=0 if anchor is None else anchor.number,
        unsigned="" if anchor is not None or wrong else _why_unsigned(home, model, entries, now),
        problems=(*problems, *wrong),
    )


def _why_unsigned(home: Home, model: str, entries: list[JournalEntry], now: float) -> str:
    """Say why a journal without an anchor has none: too young, no key, or something to look at."""
    if not entries:
        return "nothing to sign yet"
    if not signing_key(home).private.exists():
        return "not signed, since this machine has no private key: the chain alone is checked"
    age = now - entries[0].at
    if age < SOON_S:
        return "not signed yet: a running server signs the newest entry once a minute"
    return (
        f"not signed although it began {duration(age)} ago: no controller has run for a minute "
        f"since, or {anchor_path(home, model)} was removed"
    )


def _read(home: Home, model: str) -> tuple[Anchor | None, list[str]]:
    """Return the anchor where it is signed by the home's key, or what is wrong with it."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        anchor = msgspec.json.decode(anchor_path(home, model).read_bytes(), type=Anchor)
    except FileNotFoundError:
        return None, []
    except msgspec.DecodeError:
        return None, ["the signed anchor cannot be read"]
    public = signing_key(home).public
    if not public.exists():
        raise StoreError("the home has no public key to check the journal with", do="Restore it.")
    key = load_pem_public_key(public.read_bytes())
    assert isinstance(key, EllipticCurvePublicKey), "the home's key is on a curve"
    try:
        signature = base64.b64decode(anchor.signature, validate=True)
        key.verify(signature, _signed(model, anchor.number, anchor.digest), ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return None, ["the anchor's signature is not this home's: it was changed"]
    return anchor, []


def _signed(model: str, number: int, digest: str) -> bytes:
    return msgspec.json.encode((model, number, digest))
