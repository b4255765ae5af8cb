"""The gate: roles, models, expiry, rotation while it runs, rates; and that no key is ever told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from steadynet.clock import ManualClock
from steadynet.errors import Forbidden, RateLimited, SteadynetError, Unauthenticated, UserError
from steadynet.home import Home
from steadynet.serving import auth, limits
from steadynet.serving.auth import Gate, bearer, make_gate
from steadynet.serving.keys import (
    ROLES,
    CallerKey,
    KeyRole,
    changing_keys,
    find_key,
    make_key,
    read_keys,
)
from steadynet.spec.model import ServeSpec

MODEL = "payments"
AddKey = Callable[..., str]


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops the time that rates are counted in: on a busy machine no bucket fills meanwhile."""
    monkeypatch.setattr(limits, "monotonic", lambda: 0.0)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the tests move."""
    return ManualClock()


@pytest.fixture
def add_key(home: Home, clock: ManualClock) -> AddKey:
    """Adds a key to the home and returns it."""

    def add(role: KeyRole = "caller", name: str = "shop", **options: object) -> str:
        key, kept = make_key(name, role, now=clock.now(), **options)  # type: ignore[arg-type]
        with changing_keys(home) as keys:
            keys.append(kept)
        return key

    return add


def gate_of(home: Home, clock: ManualClock, **serve: object) -> Gate:
    """Return a worker's gate that asks for keys."""
    return make_gate(home.caller_keys, msgspec.convert({"auth": "keys", **serve}, ServeSpec), clock)


def answer(gate: Gate, key: str, role: KeyRole = "caller", model: str = MODEL) -> str:
    """Return the name of the refusal, or nothing."""
    refusal: SteadynetError | None = None
    try:
        gate.admit(model, role, key.encode(), by_admin_address=True)
    except SteadynetError as error:
        refusal = error
    assert len(key) < 20 or key[16:] not in str(refusal)
    return type(refusal).__name__ if refusal else ""


def test_a_role_may_do_what_those_before_it_may(
    home: Home, clock: ManualClock, add_key: AddKey
) -> None:
    keys = {role: add_key(role) for role in ROLES}
    gate = gate_of(home, clock)
    for mine, own in enumerate(ROLES):
        for asked, wanted in enumerate(ROLES):
            expected = "" if mine >= asked else "Forbidden"
            assert answer(gate, keys[own], wanted) == expected


def test_a_key_reaches_its_models_and_no_other(
    home: Home, clock: ManualClock, add_key: AddKey
) -> None:
    scoped, wide = add_key(models=[MODEL, "loans"]), add_key()
    gate = gate_of(home, clock)
    assert answer(gate, scoped) == answer(gate, scoped, model="loans") == ""
    assert answer(gate, scoped, model="salaries") == "Forbidden"
    assert answer(gate, wide, model="salaries") == ""


def test_every_other_text_is_no_key(home: Home, clock: ManualClock, add_key: AddKey) -> None:
    key, other = add_key(), add_key()
    gate = gate_of(home, clock)
    wrong = [
        "",
        "sn_",
        key[:-1],
        key + "0",
        key[:-1] + ("0" if key[-1] != "0" else "1"),
        key.upper(),
        key[:16] + other[16:],
        "sn_000000000000_" + key[16:],
        "Bearer " + key,
        " " + key,
        "\xff" * 80,
    ]
    assert {answer(gate, text) for text in wrong} == {"Unauthenticated"}
    assert answer(gate, key) == ""


def test_only_digests_are_kept(home: Home, add_key: AddKey) -> None:
    key = add_key()
    text = home.caller_keys.read_text()
    assert key[16:] not in text
    assert read_keys(home)[0].sha256 in text
    assert home.caller_keys.stat().st_mode & 0o777 == 0o600


def test_a_key_ends_when_it_expires(home: Home, clock: ManualClock, add_key: AddKey) -> None:
    key = add_key(expires=clock.now() + 60)
    gate = gate_of(home, clock)
    clock.advance(59.9)
    assert answer(gate, key) == ""
    clock.advance(0.1)
    assert answer(gate, key) == "Unauthenticated"


def test_keys_change_while_the_gate_is_in_use(
    home: Home, clock: ManualClock, add_key: AddKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "POLL_S", 0.001)
    first = add_key()
    gate = gate_of(home, clock)
    assert gate.keyring is not None

    async def until(key: str, expected: str) -> None:
        while answer(gate, key) != expected:
            await asyncio.sleep(0.001)

    async def main() -> None:
        assert gate.keyring is not None
        stopping = asyncio.Event()
        following = asyncio.create_task(gate.keyring.follow(stopping))
        second = add_key()
        await until(second, "")
        assert answer(gate, first) == "", "both hold while callers change over"
        with changing_keys(home) as keys:
            keys[0] = msgspec.structs.replace(keys[0], revoked=clock.now())
        await until(first, "Unauthenticated")
        assert answer(gate, second) == ""
        home.caller_keys.unlink()
        await until(second, "Unauthenticated")
        stopping.set()
        await following

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_broken_file_changes_nothing_and_opens_nothing(
    home: Home, clock: ManualClock, add_key: AddKey, caplog: pytest.LogCaptureFixture
) -> None:
    key = add_key()
    gate = gate_of(home, clock)
    home.caller_keys.write_bytes(b'{"version": 1, "keys": [{"id": "x"}]}')
    assert gate.keyring is not None
    gate.keyring.look()
    assert answer(gate, key) == ""
    assert "cannot be read" in caplog.text
    assert answer(gate_of(home, clock), key) == "Unauthenticated", "a fresh worker knows no key"
    with pytest.raises(UserError, match="cannot be read"):
        read_keys(home)


@pytest.mark.usefixtures("still")
def test_rates_are_a_worker_s_share_and_survive_other_changes(
    home: Home, clock: ManualClock, add_key: AddKey
) -> None:
    slow, fast = add_key(), add_key(per_second=1000.0)
    gate = gate_of(home, clock, rate_per_key=20.0, workers=2)
    passed = sum(answer(gate, slow) == "" for _ in range(100))
    assert passed == 10, "half of 20 per second, at most a second of it at once"
    assert sum(answer(gate, fast) == "" for _ in range(100)) == 100
    add_key()
    assert gate.keyring is not None
    gate.keyring.look()
    assert answer(gate, slow) == "RateLimited", "a change of other keys fills no bucket"


@pytest.mark.usefixtures("still")
def test_a_model_s_rate_holds_for_all_callers_together(
    home: Home, clock: ManualClock, add_key: AddKey
) -> None:
    keys = [add_key() for _ in range(5)]
    gate = gate_of(home, clock, rate_per_model=10.0)
    passed = sum(answer(gate, keys[turn % 5]) == "" for turn in range(100))
    assert passed == 10
    assert answer(gate, keys[0], model="loans") == ""
    assert answer(gate, keys[0], "viewer") == "", "looking is no prediction"


def test_names_of_no_model_fill_no_memory(
    home: Home, clock: ManualClock, add_key: AddKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over gRPC the name of a model is whatever the caller writes."""
    key = add_key()
    gate = gate_of(home, clock, rate_per_model=10.0)
    for number in range(100):
        gate.admit(f"none-{number}", "caller", key.encode(), is_served=False)
    gate.admit(MODEL, "caller", key.encode())
    assert list(gate._models) == [MODEL]
    monkeypatch.setattr(auth, "MOST_KEYS", 3)
    for _ in range(6):
        gate = gate_of(home, clock) if not gate.counts else gate
        another = add_key()
        assert gate.keyring is not None
        gate.keyring.look()
        gate.admit(MODEL, "viewer", another.encode())
    assert len(gate.counts) == 4, "three keys, and all others together"
    assert sum(counts["admitted"] for counts in gate.counts.values()) == 107


def test_a_refusal_for_the_rate_says_when_to_come_again(home: Home, clock: ManualClock) -> None:
    gate = make_gate(home.caller_keys, ServeSpec(rate_per_model=0.5), clock)
    assert not gate.open
    gate.admit(MODEL, "caller", b"")
    with pytest.raises(RateLimited) as caught:
        gate.admit(MODEL, "caller", b"")
    assert 0 < caught.value.retry_after_s <= 2.0


def test_no_gate_asks_nothing(home: Home, clock: ManualClock) -> None:
    gate = make_gate(home.caller_keys, ServeSpec(), clock)
    assert gate.open
    assert gate.admit(MODEL, "caller", b"") == ""


def test_what_changes_something_is_done_by_the_admin_address_alone(
    home: Home, clock: ManualClock, add_key: AddKey
) -> None:
    key = add_key("admin").encode()
    for gate in (Gate(), gate_of(home, clock)):
        for role in ("operator", "admin"):
            with pytest.raises(Forbidden, match="admin_port"):
                gate.admit(MODEL, role, key)
            gate.admit(MODEL, role, key, by_admin_address=True)
        gate.admit(MODEL, "caller", key)


def test_bearer() -> None:
    assert bearer(b"Bearer sn_x") == bearer(b"bearer  sn_x ") == b"sn_x"
    assert bearer(b"Basic dXNlcg==") == bearer(b"sn_x") == bearer(b"") == b""


def test_keys_are_found_by_id_or_by_a_name_of_their_own(clock: ManualClock) -> None:
    def kept(name: str, **changes: object) -> CallerKey:
        return msgspec.structs.replace(make_key(name, "caller", now=clock.now())[1], **changes)

    keys = [kept("a"), kept("b"), kept("b"), kept("a", revoked=1.0), kept("c", revoked=1.0)]
    assert find_key(keys, "a", now=clock.now()) == 0
    assert find_key(keys, keys[2].id, now=clock.now()) == 2
    for wanted, why in [("b", "2 keys"), ("c", "no such"), (keys[3].id, "no longer"), ("x", "no")]:
        with pytest.raises(UserError, match=why):
            find_key(keys, wanted, now=clock.now())


def test_a_holder_s_name_is_plain(clock: ManualClock) -> None:
    for name in ("", " a", "a\n", "x" * 101):
        with pytest.raises(UserError):
            make_key(name, "caller", now=clock.now())


def test_errors_say_which_role_is_needed(home: Home, clock: ManualClock, add_key: AddKey) -> None:
    gate = gate_of(home, clock)
    key = add_key("viewer").encode()
    with pytest.raises(Unauthenticated, match="does not hold"):
        gate.admit(MODEL, "caller", key)
    assert gate.keyring is not None
    gate.keyring.look()
    with pytest.raises(Forbidden, match="expected role caller; got role viewer"):
        gate.admit(MODEL, "caller", key)
    with pytest.raises(Unauthenticated, match="X-API-Key"):
        gate.admit(MODEL, "caller", b"")
