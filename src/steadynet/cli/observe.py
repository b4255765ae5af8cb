"""`steadynet observe`: rules for your Prometheus, routes for your Alertmanager."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadynet.home import Home


def observe(
    model: Annotated[str, typer.Argument(help="A model: name, name@alias or name/3.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write into.")] = Path("observe"),
    page_url: Annotated[
        str | None, typer.Option("--page-url", help="Where Alertmanager sends pages (a webhook).")
    ] = None,
    ticket_url: Annotated[
        str | None, typer.Option("--ticket-url", help="Where it sends tickets.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Write a model's objectives as Prometheus rules, and an Alertmanager configuration.

    The rules decide as the program's own alerts do, from the metrics that it shows; those that
    were written before are replaced. An `alertmanager.yml` that is there already is kept.
    """
    import yaml

    from steadynet.bundle.read import verify_bundle
    from steadynet.bundle.sign import signing_key
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.errors import UserError
    from steadynet.files import write_atomic
    from steadynet.monitoring.reports import AlertKind
    from steadynet.monitoring.rules import alertmanager_config, prometheus_rules
    from steadynet.registry.local import LocalRegistry

    home = Home.default()
    found = LocalRegistry(home).resolve(model)
    slo = verify_bundle(found.bundle, signing_key(home).public).manifest.slo
    urls: dict[AlertKind, str] = {}
    if page_url is not None:
        urls["page"] = page_url
    if ticket_url is not None:
        urls["ticket"] = ticket_url
    try:
        to.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{to} is no folder", do="name a folder with --to") from None
    written = {to / f"{found.name}.rules.yml": prometheus_rules(found.name, slo)}
    routes = to / "alertmanager.yml"
    if not routes.exists():
        written[routes] = alertmanager_config(urls)
    for path, content in written.items():
        text = yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)
        write_atomic(path, text.encode())
    if as_json:
        print_json({"model": found.name, "files": [str(path) for path in written]})
        return
    out = stdout()
    for path in written:
        out.print(str(path), markup=False, highlight=False, soft_wrap=True)
    if routes not in written:
        out.print(f"{routes} was there and is kept", markup=False, soft_wrap=True)
    out.print("  next: name the rules in prometheus.yml's rule_files, and reload it", markup=False)
