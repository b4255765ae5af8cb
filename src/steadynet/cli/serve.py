"""`steadynet serve`: answer predictions over HTTP, with the controller beside the workers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.rollout.route import Endpoint
    from steadynet.serving.settings import ServerInfo

SPEC = Path("steadynet.toml")


Models = Annotated[
    list[str] | None,
    typer.Argument(
        help="Models: name, name@alias, name/3, or a bundle's path. Further versions of a model"
        " stand beside the first, for those who ask for them by number."
    ),
]
Every = Annotated[
    bool, typer.Option("--all", help="Serve every model of the home that has a champion.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on; default 127.0.0.1.")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Default 8080; 0: any that is free.")
]
GrpcPort = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Serve gRPC too, by convention on 8081; 0: any free."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default 1.")]
SpecPath = Annotated[
    Path | None, typer.Option(help="The spec; default: steadynet.toml where there is one.")
]
WithController = Annotated[
    bool, typer.Option("--controller/--no-controller", help="Watch, roll out and heal.")
]
Json = Annotated[bool, typer.Option("--json", help="Say in JSON where it listens, once it does.")]


def serve(
    models: Models = None,
    every: Every = False,
    host: Host = None,
    port: Port = None,
    grpc_port: GrpcPort = None,
    workers: Workers = None,
    spec: SpecPath = None,
    controller: WithController = True,
    as_json: Json = False,
) -> None:
    """Serve models until Ctrl-C or SIGTERM; then finish what is in flight.

    SIGHUP reads the spec anew and exchanges the workers one by one, losing no request.
    """
    from steadynet.control.signing import WebhookKeys
    from steadynet.log import log_to_stderr
    from steadynet.serving.supervisor import Plan, Supervisor, stop_on_signals
    from steadynet.spec.load import load_spec

    home = Home.default()
    if "STEADYNET_STORE" in os.environ:
        # Wrong words about the database are said now, not by the controller that comes later.
        from steadynet.control.store import remember_store

        remember_store(home)
    WebhookKeys.of(os.environ)  # So are wrong words about the webhook's secret.
    path = spec or (SPEC if SPEC.is_file() else None)
    overrides = _given(host=host, port=port, grpc_port=grpc_port, workers=workers)
    wanted, pinned = _wanted(home, models or [], every=every)
    plan = Plan(
        home=home,
        wanted=wanted,
        pinned=pinned,
        serve=load_spec(path, overrides).serve,
        controller=controller,
        spec=path.absolute() if path else None,
        reread=lambda: load_spec(path, overrides).serve,
        journal=partial(_record, home),
    )

    log_to_stderr("supervisor")
    supervisor = Supervisor(plan, on_ready=partial(_say, home, as_json=as_json))
    stop_on_signals(supervisor)
    supervisor.run()


def _given(**options: str | int | None) -> dict[str, object]:
    """Return the keys of `[serve]` that were given on the command line."""
    return {f"serve.{name}": value for name, value in options.items() if value is not None}


def _record(home: Home, kind: str, text: str, data: Mapping[str, object]) -> None:
    """Write into the home's journal. Its database is imported once it is needed."""
    from steadynet.control.audit import record

    record(home, kind, text, data)


def _wanted(
    home: Home, references: list[str], *, every: bool
) -> tuple[dict[str, Endpoint], dict[str, tuple[Endpoint, ...]]]:
    """Return what shall answer for each model, and the versions beside it.

    Of several references to one model the first says what answers. Raises `UserError`,
    `UnknownModel`.
    """
    from steadynet.errors import UserError
    from steadynet.registry.local import LocalRegistry
    from steadynet.rollout.route import Endpoint

    registry = LocalRegistry(home)
    if every:
        champions = [name for name in registry.names() if "champion" in registry.aliases(name)]
        references = [*champions, *references]
    if not references:
        raise UserError(
            "there is no model to serve",
            expected="a model's name, or --all with a model that has a champion",
            got=f"no such model in {home.root}" if every else "no name",
        )
    wanted: dict[str, Endpoint] = {}
    pinned: dict[str, tuple[Endpoint, ...]] = {}
    for reference in references:
        resolved = registry.resolve(reference)
        name = resolved.name
        endpoint = Endpoint(
            version=resolved.version,
            bundle=str(resolved.bundle),
            manifest_sha256=resolved.manifest_sha256,
        )
        if name not in wanted:
            wanted[name] = endpoint
        elif endpoint.version in {wanted[name].version, *(e.version for e in pinned.get(name, ()))}:
            raise UserError(
                f"version {endpoint.version} of {name!r} is named twice",
                expected="each version once: the first answers, further ones beside it",
            )
        else:
            pinned[name] = (*pinned.get(name, ()), endpoint)
    return wanted, pinned


def _say(home: Home, info: ServerInfo, versions: dict[str, str], *, as_json: bool) -> None:
    """Tell a person, or a program, where the server listens."""
    from steadynet.cli.terminal import print_json, stdout

    url = info.url
    if as_json:
        answer = {
            "url": url,
            "version": versions[info.model],
            "models": versions,
            "home": str(home.root),
        }
        print_json({**msgspec.to_builtins(info), **answer})
        return
    console = stdout()
    for model, version in versions.items():
        console.print(f"serving [bold]{model}[/] version {version} on [bold]{url}[/]")
    if info.grpc_port is not None:
        console.print(f"  gRPC on {info.host}:{info.grpc_port}", markup=False)
    for what, port in (("HTTP", info.admin_port), ("gRPC", info.admin_grpc_port)):
        if port is not None:
            text = f"  loads and unloads models by {what} on 127.0.0.1:{port}"
            console.print(text, markup=False)
    console.print(f"  curl {url}/v2/models/{info.model}", markup=False)
    console.print(f"  state in {home.root}; Ctrl-C drains and ends", markup=False)
