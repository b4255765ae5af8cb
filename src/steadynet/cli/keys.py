"""`steadynet keys`: who may call the servers of this home. Running servers follow at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.cli.durations import seconds_of
from steadynet.home import Home, check_name

if TYPE_CHECKING:
    from steadynet.serving.keys import CallerKey

app = typer.Typer(
    help="Who may call: keys of callers, kept as digests. Every change is in the journal.",
    no_args_is_help=True,
)

Wanted = Annotated[str, typer.Argument(help="A key's id, or a name that one key alone has.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Who will hold the key, as checkout-service.")],
    role: Annotated[str, typer.Option(help="viewer, caller, operator or admin.")] = "caller",
    model: Annotated[
        list[str] | None, typer.Option(help="A model that the key reaches; default: all. Repeat.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="After how long, as 90d or 12h.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once and kept nowhere."""
    from steadynet.cli.terminal import print_json, stderr, stdout
    from steadynet.clock import SystemClock
    from steadynet.control.audit import record
    from steadynet.errors import UserError
    from steadynet.serving.keys import ROLES, changing_keys, make_key

    if role not in ROLES:
        raise UserError("there is no such role", expected=" or ".join(ROLES), got=repr(role[:40]))
    if rate is not None and rate <= 0:
        raise UserError("--rate does not fit", expected="more than 0", got=f"{rate:g}")
    home, now = Home.default(), SystemClock().now()
    key, kept = make_key(
        name,
        role,
        now=now,
        models=[check_name(one) for one in model or ()],
        expires=now + seconds_of("--expires", expires) if expires else None,
        per_second=rate,
    )
    with changing_keys(home) as keys:
        # The journal first: a change that it does not know of must not exist.
        record(home, "keys.added", f"key {kept.id} for {name}: {_scope(kept)}", _shown(kept))
        keys.append(kept)
    if as_json:
        print_json({**_shown(kept), "key": key})
        return
    stderr().print(f"key {kept.id} for {name}: {_scope(kept)}; shown this once:", markup=False)
    stdout().print(key, markup=False)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys: ids, holders, scopes; never the keys themselves."""
    from rich.markup import escape
    from rich.table import Table

    from steadynet.cli.terminal import print_json, stdout
    from steadynet.clock import SystemClock
    from steadynet.serving.keys import read_keys

    keys, now = read_keys(Home.default()), SystemClock().now()
    if as_json:
        print_json({"keys": [{**_shown(key), "state": _state(key, now)} for key in keys]})
        return
    if not keys:
        stdout().print("no keys; make one with: steadynet keys add NAME", markup=False)
        return
    table = Table("id", "name", "role", "models", "rate", "state", box=None)
    for key in keys:
        rate = "" if key.per_second is None else f"{key.per_second:g}/s"
        cells = (key.id, key.name, key.role, ", ".join(key.models) or "all", rate, _state(key, now))
        table.add_row(*map(escape, cells))
    stdout().print(table)


@app.command("revoke")
def revoke(key: Wanted, as_json: AsJson = False) -> None:
    """End a key at once."""
    import msgspec

    from steadynet.cli.terminal import print_json, stdout
    from steadynet.clock import SystemClock
    from steadynet.control.audit import record
    from steadynet.serving.keys import changing_keys, find_key

    home, now = Home.default(), SystemClock().now()
    with changing_keys(home) as keys:
        at = find_key(keys, key, now=now)
        ended = msgspec.structs.replace(keys[at], revoked=now)
        record(home, "keys.revoked", f"key {ended.id} of {ended.name} is revoked", _shown(ended))
        keys[at] = ended
    if as_json:
        print_json(_shown(ended))
        return
    stdout().print(f"key {ended.id} of {ended.name} is revoked", markup=False)


@app.command("rotate")
def rotate(
    key: Wanted,
    grace: Annotated[str, typer.Option(help="How long the old key goes on, as 1h.")] = "1h",
    as_json: AsJson = False,
) -> None:
    """Make a key of the same scope in the place of another, which goes on for a while."""
    import msgspec

    from steadynet.cli.terminal import print_json, stderr, stdout
    from steadynet.clock import SystemClock
    from steadynet.control.audit import record
    from steadynet.serving.keys import changing_keys, find_key, make_key

    home, now = Home.default(), SystemClock().now()
    ends = now + seconds_of("--grace", grace)
    with changing_keys(home) as keys:
        at = find_key(keys, key, now=now)
        old = keys[at]
        life_s = None if old.expires is None else old.expires - old.created
        secret, new = make_key(
            old.name,
            old.role,
            now=now,
            models=old.models,
            expires=None if life_s is None else now + life_s,
            per_second=old.per_second,
        )
        old = msgspec.structs.replace(old, expires=min(ends, old.expires or ends))
        text = f"key {new.id} takes the place of {old.id} of {old.name}"
        record(home, "keys.rotated", text, {"old": _shown(old), "new": _shown(new)})
        keys[at] = old
        keys.append(new)
    if as_json:
        print_json({**_shown(new), "key": secret, "replaces": _shown(old)})
        return
    stderr().print(f"{text}, which ends in {grace}; shown this once:", markup=False)
    stdout().print(secret, markup=False)


@app.command("history")
def history(
    last: Annotated[int, typer.Option("--last", min=1, help="How many changes.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Tell the last changes of keys. Exit code 1 where the journal was changed."""
    from steadynet.cli.why import tell
    from steadynet.control import audit

    home = Home.default()
    entries, problems = audit.history(home, last)
    tell(audit.HOME, entries, problems, as_json=as_json)


def _shown(key: CallerKey) -> dict[str, object]:
    """Return what may be shown of a key."""
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "models": list(key.models),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "per_second": key.per_second,
    }


def _scope(key: CallerKey) -> str:
    return f"{key.role} of {', '.join(key.models) or 'all models'}"


def _state(key: CallerKey, now: float) -> str:
    from steadynet.cli.terminal import clock_time

    if key.revoked is not None:
        return "revoked"
    if key.expires is None:
        return "holds"
    when = clock_time(key.expires)
    return f"holds until {when}" if key.holds(now) else f"expired {when}"
