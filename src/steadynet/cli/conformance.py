"""`steadynet conformance`: does a server do what the Open Inference Protocol says?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from steadynet.errors import MissingDependency, UserError

if TYPE_CHECKING:
    from steadynet.conformance.checks import Outcome, Report

MARKS = {"pass": "[green]pass[/]", "fail": "[red]fail[/]", "skip": "[yellow]skip[/]"}


def conformance(
    url: Annotated[str, typer.Argument(help="Any server's address, as http://localhost:8080.")],
    model: Annotated[
        str | None, typer.Option(help="The model to ask; default: the only one it lists.")
    ] = None,
    grpc: Annotated[
        str | None, typer.Option(help="HOST:PORT of its gRPC side, to check that too.")
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(help="JSON file of an inference request that the model takes."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="NAME: VALUE to send with each request.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check a server against the Open Inference Protocol; exit with 1 where a check fails."""
    from steadynet.conformance.checks import Report
    from steadynet.conformance.target import find_model

    if not url.startswith(("http://", "https://")):
        raise UserError("that is no address", expected="http://HOST:PORT", got=repr(url[:100]))
    headers = dict(_pair(item) for item in header or [])
    content = None if request is None else _read_request(request)
    name = model or find_model(url, headers)
    outcomes = tuple(_outcomes(url, grpc, name, content, headers))
    report = Report(url=url, grpc=grpc, model=name, outcomes=outcomes)
    _say(report, as_json=as_json)
    if report.count("fail"):
        raise typer.Exit(1)


def _outcomes(
    url: str, grpc: str | None, model: str, request: Any, headers: dict[str, str]
) -> Iterable[Outcome]:
    """Yield what comes of every check."""
    from steadynet.conformance.checks import run_checks
    from steadynet.conformance.http_checks import HTTP_CHECKS
    from steadynet.conformance.target import HttpTarget

    yield from run_checks(HTTP_CHECKS, HttpTarget(url, model, request, headers))
    if grpc is None:
        return
    try:
        from steadynet.conformance.grpc_checks import GRPC_CHECKS, open_target
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "grpc", "grpc") from error
    metadata = [(name.lower(), value) for name, value in headers.items()]
    with open_target(grpc, model, request, metadata) as target:
        yield from run_checks(GRPC_CHECKS, target)


def _pair(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise UserError("a header is wrong", expected="'NAME: VALUE'")
    return name.strip(), value.strip()


def _read_request(path: Path) -> Any:
    """Return a request's JSON. Raises `UserError`."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"{path} cannot be read as JSON", got=str(error)) from error
    if not isinstance(content, dict) or not content.get("inputs"):
        raise UserError(f"{path} is no inference request", expected='{"inputs": [...]}')
    return content


def _say(report: Report, *, as_json: bool) -> None:
    from steadynet.cli.terminal import print_json, stdout

    counts = {result: report.count(result) for result in ("pass", "fail", "skip")}
    if as_json:
        print_json({**msgspec.to_builtins(report), "counts": counts})
        return
    console = stdout()
    for outcome in report.outcomes:
        console.print(f"{MARKS[outcome.result]}  {outcome.name:24}", outcome.what, highlight=False)
        if outcome.result == "fail":
            console.print(f"      expected {outcome.expected}", markup=False, highlight=False)
            console.print(f"      got      {outcome.got}", markup=False, highlight=False)
        elif outcome.result == "skip":
            console.print(f"      {outcome.got}", markup=False, highlight=False)
    console.print(
        f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped"
        f" of the model {report.model} at {report.url}",
        markup=False,
        highlight=False,
    )
