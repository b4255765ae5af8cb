"""`steadynet`: the commands, and the one place where errors become messages and exit codes.

Every command imports what it needs inside its function, so that `steadynet --help` is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from steadynet.cli import (
    alerts,
    check,
    conformance,
    evaluate,
    explain,
    feedback,
    init,
    keys,
    log,
    observe,
    predict,
    replay,
    retrain,
    rollout,
    serve,
    status,
    train,
    verify,
    why,
)
from steadynet.cli.terminal import report_error, report_surprise
from steadynet.errors import SteadynetError

app = typer.Typer(
    name="steadynet",
    help="Neural networks that stay right in production: train, serve, watch, heal.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("check")(check.check)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("explain")(explain.explain)
app.command("predict")(predict.predict)
app.command("verify")(verify.verify)
app.command("serve")(serve.serve)
app.add_typer(rollout.app, name="rollout")
app.add_typer(alerts.app, name="alerts")
app.add_typer(keys.app, name="keys")
app.add_typer(log.app, name="log")
app.command("conformance")(conformance.conformance)
app.command("feedback")(feedback.feedback)
app.command("status")(status.status)
app.command("why")(why.why)
app.command("replay")(replay.replay)
app.command("observe")(observe.observe)
app.command("retrain")(retrain.retrain)

DEBUG = "--debug"


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("steadynet"))
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_print_version, is_eager=True
    ),
    debug: bool = typer.Option(False, DEBUG, help="Show the traceback of an error."),
) -> None:
    """Neural networks that stay right in production: train, serve, watch, heal."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit code. No exception leaves here."""
    as_json = "--json" in arguments
    try:
        app(args=list(arguments), prog_name="steadynet")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except SteadynetError as error:
        report_error(error, as_json=as_json, traceback=DEBUG in arguments)
        return error.exit_code
    except Exception as error:  # The process's boundary: a person gets a message, not a traceback.
        report_surprise(error, as_json=as_json, traceback=DEBUG in arguments)
        return 1
    return 0


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
