"""The outside surface of the command line: names, options, speed, and what help does not import."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer.main

from steadynet.cli.main import app

COMMANDS = {
    "init": {
        "--target",
        "--task",
        "--drop",
        "--labels-separator",
        "--name",
        "--output",
        "--force",
    },
    "check": {
        "--target",
        "--spec",
        "--drop",
        "--group-column",
        "--time-column",
        "--compare",
        "--strict",
        "--json",
    },
    "explain": {"--row", "--orders", "--time-limit", "--seed", "--pictures", "--json"},
    "train": {
        "--target",
        "--name",
        "--spec",
        "--drop",
        "--task",
        "--time-column",
        "--group-column",
        "--preset",
        "--search",
        "--distill",
        "--from",
        "--recalibrate",
        "--time-limit",
        "--seed",
        "--resume",
        "--register",
        "--on-interrupt",
        "--parent",
        "--json",
    },
    "evaluate": {"--json"},
    "predict": {"--output", "--json"},
    "verify": {"--key", "--journal", "--json"},
    "conformance": {"--model", "--grpc", "--request", "--header", "--json"},
    "serve": {
        "--all",
        "--grpc-port",
        "--host",
        "--port",
        "--workers",
        "--spec",
        "--controller",
        "--json",
    },
    "feedback": {"--skip-bad", "--json"},
    "status": {"--json"},
    "why": {"--last", "--json"},
    "replay": {"--json"},
    "observe": {"--to", "--page-url", "--ticket-url", "--prometheus-url", "--json"},
    "retrain": {"--wait", "--way", "--json"},
    "alerts": set(),
    "rollout": set(),
    "keys": set(),
    "log": set(),
}
KEYS = {
    "add": {"--role", "--model", "--expires", "--rate", "--json"},
    "list": {"--json"},
    "revoke": {"--json"},
    "rotate": {"--grace", "--json"},
    "history": {"--last", "--json"},
}
ALERTS = {
    "test": {"--spec", "--kind", "--json"},
    "silence": {"--for", "--reason", "--json"},
    "silences": {"--json"},
    "unsilence": {"--json"},
}
ROLLOUT = {"start", "promote", "abort", "pause", "resume", "status"}


def test_commands_and_options_are_the_listed_ones() -> None:
    group = typer.main.get_group(app)
    found = {
        name: {
            option
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--")
        }
        for name, command in group.commands.items()
    }
    assert found == COMMANDS


def test_the_rollouts_commands_are_the_listed_ones() -> None:
    group = typer.main.get_group(app).commands["rollout"]
    assert isinstance(group, typer.core.TyperGroup)
    assert set(group.commands) == ROLLOUT
    for command in group.commands.values():
        assert any("--json" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize(("name", "listed"), [("keys", KEYS), ("alerts", ALERTS)])
def test_a_groups_commands_are_the_listed_ones(name: str, listed: dict[str, set[str]]) -> None:
    group = typer.main.get_group(app).commands[name]
    assert isinstance(group, typer.core.TyperGroup)
    found = {
        name: {option for one in command.params for option in one.opts if option.startswith("--")}
        for name, command in group.commands.items()
    }
    assert found == listed


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from steadynet.cli.main import run; assert run(['--help']) == 0;"
        "heavy = {'torch','mlflow','polars','pandas','sklearn','onnxruntime','numpy','sqlalchemy',"
        "'uvicorn'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
