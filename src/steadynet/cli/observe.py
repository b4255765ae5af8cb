"""`steadynet observe`: rules for your Prometheus, routes, and dashboards for your Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    from steadynet.bundle.manifest import Manifest
    from steadynet.spec.model import Spec


def observe(
    model: Annotated[str, typer.Argument(help="A model: name, name@alias or name/3.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write into.")] = Path("observe"),
    page_url: Annotated[
        str | None, typer.Option("--page-url", help="Where Alertmanager sends pages (a webhook).")
    ] = None,
    ticket_url: Annotated[
        str | None, typer.Option("--ticket-url", help="Where it sends tickets.")
    ] = None,
    prometheus_url: Annotated[
        str, typer.Option("--prometheus-url", help="Where Grafana finds your Prometheus.")
    ] = "http://localhost:9090",
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Write a model's objectives as Prometheus rules, Alertmanager routes, Grafana dashboards.

    The rules decide as the program's own alerts do, from the metrics that it shows; those that
    were written before are replaced. An `alertmanager.yml` that is there already is kept, and so
    are dashboards and provisioning files that you changed.
    """
    import yaml

    from steadynet.bundle.read import verify_bundle
    from steadynet.bundle.sign import signing_key
    from steadynet.cli.generated_files import write_unchanged
    from steadynet.control.settings import remembered_spec
    from steadynet.errors import UserError
    from steadynet.files import write_atomic
    from steadynet.monitoring.reports import AlertKind
    from steadynet.monitoring.rules import alertmanager_config, prometheus_rules
    from steadynet.registry.local import LocalRegistry

    _check_url(prometheus_url)
    home = Home.default()
    found = LocalRegistry(home).resolve(model)
    manifest = verify_bundle(found.bundle, signing_key(home).public).manifest
    urls: dict[AlertKind, str] = {}
    if page_url is not None:
        urls["page"] = page_url
    if ticket_url is not None:
        urls["ticket"] = ticket_url
    try:
        to.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{to} is no folder", do="name a folder with --to") from None
    spec = remembered_spec(home, found.name)
    rules = prometheus_rules(found.name, manifest.slo, spec.alerts.runbooks)
    written = {to / f"{found.name}.rules.yml": rules}
    routes = to / "alertmanager.yml"
    if not routes.exists():
        written[routes] = alertmanager_config(urls)
    for path, content in written.items():
        text = yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)
        write_atomic(path, text.encode())
    shown, kept = write_unchanged(to, _for_grafana(found.name, manifest, spec, to, prometheus_url))
    files = [*written, *shown]
    if routes not in written:
        kept.insert(0, routes)
    _tell(found.name, files, kept, as_json=as_json)


def _check_url(url: str) -> None:
    from urllib.parse import urlsplit

    from steadynet.errors import UserError

    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UserError(
            "--prometheus-url is no URL",
            expected="as http://localhost:9090",
            do="Name it as Grafana reaches it.",
        )


def _tell(model: str, files: list[Path], kept: list[Path], *, as_json: bool) -> None:
    """Say what was written and what was kept."""
    from steadynet.cli.terminal import print_json, stdout

    if as_json:
        print_json(
            {
                "model": model,
                "files": [str(path) for path in files],
                "kept": [str(path) for path in kept],
            }
        )
        return
    out = stdout()
    for path in files:
        out.print(str(path), markup=False, highlight=False, soft_wrap=True)
    for path in kept:
        out.print(f"{path} was there and is kept", markup=False, soft_wrap=True)
    out.print("  next: name the rules in prometheus.yml's rule_files, and reload it", markup=False)
    out.print("        show Grafana what lies in grafana/provisioning", markup=False)


def _for_grafana(
    model: str, manifest: Manifest, spec: Spec, to: Path, prometheus_url: str
) -> dict[str, bytes]:
    """Return name → content of the dashboards and of what provisions them."""
    import msgspec
    import yaml

    from steadynet.monitoring.dashboards import Subject, dashboards, provisioning

    tested = manifest.metrics.get("test", {})
    subject = Subject(
        model=model,
        task=manifest.schema.target.task,
        slo=manifest.slo,
        tested={name: measured.value for name, measured in tested.items()},
        drift_psi=spec.monitoring.drift_psi,
        runbooks=spec.alerts.runbooks,
    )
    files = {
        f"dashboards/{model}/{name}.json": msgspec.json.format(msgspec.json.encode(made), indent=2)
        + b"\n"
        for name, made in dashboards(subject).items()
    }
    for name, content in provisioning(str((to / "dashboards").absolute()), prometheus_url).items():
        text = yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)
        files[f"grafana/provisioning/{name}"] = text.encode()
    return files
