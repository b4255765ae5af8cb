"""The commands as a person and a program use them, in real processes on real files."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from steadynet.home import Home
from steadynet.registry.local import LocalRegistry

Run = Callable[..., Any]

METRICS = {"auc", "log_loss", "accuracy", "f1", "precision", "recall", "ece"}


# train


def test_train_says_in_json_what_programs_rely_on(workshop: Any) -> None:
    answer = workshop.trained.json()
    assert (answer["model"], answer["version"], answer["rows"]) == ("customers", "1", 600)
    assert answer["fit_seconds"] > 0
    assert set(answer["metrics"]["test"]) == METRICS
    assert all(isinstance(value, float) for value in answer["metrics"]["test"].values())
    assert set(answer["references"]) == {"linear", "boosted_trees"}
    for reference in answer["references"].values():
        assert set(reference) >= {"auc", "log_loss", "ece", "accuracy"}
    assert answer["gates"] == {"passed": True, "failed": []}
    bundle = Path(answer["bundle"])
    assert (bundle / "model.onnx").is_file()
    assert bundle == workshop.home / "models" / "customers" / "1"


def test_train_shows_its_progress_on_stderr_alone(workshop: Any) -> None:
    assert "fitting the network" in workshop.trained.err
    assert "epoch 1/" in workshop.trained.err
    assert "using steadynet.toml of this folder" in workshop.trained.err


def test_the_first_version_is_champion_and_the_registry_has_it(workshop: Any) -> None:
    aliases = json.loads((workshop.home / "models/customers/aliases.json").read_text())
    assert aliases["now"] == {"champion": "1"}
    assert (workshop.home / "mlflow" / "mlflow.db").is_file()


def test_a_failed_gate_keeps_the_version_and_makes_no_champion(
    tmp_path: Path, workshop: Any, run_apart: Run
) -> None:
    shutil.copy(workshop.folder / "customers.csv", tmp_path)
    spec = (workshop.folder / "steadynet.toml").read_text().replace("0.6", "0.9999")
    (tmp_path / "strict.toml").write_text(spec)
    done = run_apart("train", "customers.csv", "--spec", "strict.toml", "--name", "strict")
    assert done.code == 4
    assert "at least 0.9999 is required" in done.err
    assert LocalRegistry(Home(tmp_path / "home")).aliases("strict") == {}
    assert (tmp_path / "home/models/strict/1/model.onnx").is_file()
    assert "network" in done.out
    assert "boosted trees" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "absent.csv"], "absent.csv"),
        (["train", "customers.csv", "--target", "lfet"], "Did you mean 'left'?"),
        (["train", "customers.csv", "--time-limit", "soon"], "expected 90s, 5m or 1h"),
        (["train", "customers.csv", "--spec", "absent.toml"], "there is no file absent.toml"),
        (["train", "customers.csv", "--name", "no/name"], "that is no name for a model"),
        (
            ["train", "customers.csv", "--from", "customers", "--recalibrate", "--preset", "best"],
            "--recalibrate keeps what is fitted, and takes no --preset",
        ),
        (["evaluate", "nobody", "fresh.csv"], "there is no model 'nobody'"),
        (["evaluate", "customers@best", "fresh.csv"], "no alias 'best'"),
        (["predict", "customers/7", "fresh.csv", "-o", "x.csv"], "no version '7'"),
        (["predict", "customers", "fresh.csv", "-o", "x.xlsx"], ".csv or .parquet"),
        (["rollout", "start", "customers/1"], "customers was never served"),
        (["why", "nobody"], "there is no model"),
    ],
)
def test_what_was_typed_wrong_is_said_without_a_traceback(
    run: Run, arguments: list[str], message: str
) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert message in done.err.replace("\n", " ")
    assert "Traceback" not in done.err
    assert done.out == ""


def test_errors_are_json_too_where_json_was_asked_for(run: Run) -> None:
    done = run("evaluate", "nobody", "fresh.csv", "--json")
    assert done.code == 2
    assert "there is no model 'nobody'" in done.json()["error"]


def test_an_error_shows_its_traceback_with_debug(run: Run) -> None:
    done = run("--debug", "evaluate", "nobody", "fresh.csv")
    assert done.code == 2
    assert "Traceback" in done.err


# init


def test_init_writes_a_spec_that_train_reads(workshop: Any, tmp_path: Path, run_apart: Run) -> None:
    shutil.copy(workshop.folder / "customers.csv", tmp_path)
    done = run_apart("init", "customers.csv", "--target", "left", "--drop", "paperless")
    assert done.code == 0
    text = (tmp_path / "steadynet.toml").read_text()
    spec = tomllib.loads(text)
    assert spec["table"]["target"] == "left"
    assert spec["table"]["drop"] == ["paperless"]
    assert "customer" in text
    assert "identifier" in text
    again = run_apart("init", "customers.csv", "--target", "left")
    assert again.code == 2
    assert "exists already" in again.err
    assert run_apart("init", "customers.csv", "--target", "left", "--force").code == 0


# evaluate and predict


def test_evaluate_and_training_agree_on_the_metrics_of_new_rows(run: Run) -> None:
    done = run("evaluate", "customers@champion", "fresh.csv", "--json")
    answer = done.json()
    assert answer["rows"] == 200
    assert set(answer["metrics"]) == METRICS
    assert answer["metrics"]["auc"] > 0.6
    low, high = answer["intervals"]["auc"]
    assert low <= answer["metrics"]["auc"] <= high
    text = run("evaluate", "customers", "fresh.csv")
    assert f"{answer['metrics']['auc']:.4f}" in text.out


def test_explain_says_what_came_of_the_time_that_it_was_given(run: Run) -> None:
    done = run("explain", "customers", "fresh.csv", *("--row", "3"), "--time-limit", "1s", "--json")
    answer = done.json()
    assert {item["column"] for item in answer["importance"]} >= {"months", "fee", "plan"}
    assert 0 < answer["importance_rows"] <= 200
    assert answer["importance_shuffles"] >= 1
    found = answer["rows"][0]["attribution"]
    assert found["orders"] >= 4
    assert sum(found["values"]) == pytest.approx(found["answer"] - found["baseline"], abs=1e-6)
    seeded = run("explain", "customers", "fresh.csv", *("--row", "3"), "--orders", "40", "--json")
    assert seeded.json()["rows"][0]["attribution"]["orders"] == 40
    text = run("explain", "customers", "fresh.csv", *("--row", "3"), "--time-limit", "1s").out
    assert "times each; ± two standard errors" in text
    assert " orders)" in text
    for wrong in (
        ("--row", "201"),
        ("--time-limit", "soon"),
        ("--time-limit", "1s", "--pictures", "p"),
    ):
        refused = run("explain", "customers", "fresh.csv", *wrong)
        assert refused.code != 0
        assert "Error" in refused.err


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_predict_keeps_the_rows_and_adds_the_answers(
    workshop: Any, run: Run, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"scored.{ending}"
    answer = run("predict", "customers/1", "fresh.csv", "-o", str(output), "--json").json()
    assert answer["columns"] == ["prediction", "probability_no", "probability_yes"]
    scored = pl.read_csv(output) if ending == "csv" else pl.read_parquet(output)
    given = pl.read_csv(workshop.folder / "fresh.csv")
    assert scored.height == given.height == 200
    assert scored["customer"].to_list() == given["customer"].to_list()
    total = scored["probability_no"] + scored["probability_yes"]
    assert (total - 1).abs().max() < 1e-5  # type: ignore[operator]
    assert set(scored["prediction"].unique()) == {"no", "yes"}
    assert list(tmp_path.iterdir()) == [output]


def test_answers_do_not_overwrite_the_tables_own_columns(run: Run, tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    run("predict", "customers", "fresh.csv", "-o", str(first))
    answer = run("predict", "customers", str(first), "-o", str(second), "--json").json()
    assert answer["columns"][0] == "steadynet_prediction"
    scored = pl.read_csv(second)
    assert scored["prediction"].to_list() == scored["steadynet_prediction"].to_list()


def test_a_vanished_column_is_named_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("customer,months,plan,paperless,since\nc,3,plus,yes,\n")
    done = run("predict", "customers", str(tmp_path / "short.csv"), "-o", str(tmp_path / "o.csv"))
    assert done.code == 2
    assert "'fee'" in done.err
    assert not (tmp_path / "o.csv").exists()


# verify


def test_verify_passes_what_is_whole_and_names_what_is_not(
    workshop: Any, run: Run, tmp_path: Path
) -> None:
    whole = run("verify", "customers/1", "--json")
    assert whole.code == 0
    assert whole.json()["name"] == "customers"
    copy = tmp_path / "bundle"
    shutil.copytree(workshop.home / "models/customers/1", copy)
    (copy / "profile.json").write_bytes(b"{}")
    (copy / "extra.txt").write_text("")
    (copy / "golden.jsonl").unlink()
    done = run("verify", str(copy))
    assert done.code == 3
    for problem in ("profile.json was changed", "'extra.txt' is extra", "golden.jsonl is missing"):
        assert problem in done.err


def test_observe_writes_rules_and_routes_from_the_bundles_objectives(
    run: Run, tmp_path: Path
) -> None:
    options = ("--to", str(tmp_path), "--page-url", "https://x.y/z", "--json")
    done = run("observe", "customers", *options)
    assert done.code == 0, done.err
    rules, routes = (Path(path) for path in done.json()["files"][:2])
    assert "slo:sli_error:ratio_rate5m" in rules.read_text()
    assert "sloth_service: customers" in rules.read_text()
    assert "url: https://x.y/z" in routes.read_text()
    routes.write_text("# mine")
    again = run("observe", "customers", *options)
    assert str(rules) in again.json()["files"]
    assert again.json()["kept"] == [str(routes)]
    assert routes.read_text() == "# mine"
    assert run("observe", "nothing", "--to", str(tmp_path)).code != 0
    (tmp_path / "file").touch()
    for taken in ("file", "file/below"):
        refused = run("observe", "customers", "--to", str(tmp_path / taken))
        assert refused.code == 2
        assert "is no folder" in refused.err


def test_observe_writes_dashboards_and_keeps_those_that_a_person_changed(
    run: Run, tmp_path: Path
) -> None:
    options = ("--to", str(tmp_path), "--prometheus-url", "http://prometheus:9090", "--json")

    def written(*more: str) -> dict[str, Path]:
        done = run("observe", "customers", *options, *more)
        assert done.code == 0, done.err
        return {Path(path).name: Path(path) for path in done.json()["files"]}

    first = written()
    boards = [first[f"{name}.json"] for name in ("executive", "on-call", "debug")]
    assert {board.parent for board in boards} == {tmp_path / "dashboards" / "customers"}
    assert 'model=\\"customers\\"' in boards[0].read_text()
    provisioned = tmp_path / "grafana" / "provisioning"
    source = (provisioned / "datasources" / "steadynet.yml").read_text()
    assert "url: http://prometheus:9090" in source
    assert (
        str(tmp_path / "dashboards") in (provisioned / "dashboards" / "steadynet.yml").read_text()
    )
    before = [board.read_bytes() for board in boards]
    assert written().keys() == first.keys() - {"alertmanager.yml"}
    assert [board.read_bytes() for board in boards] == before
    boards[1].write_text("{}")
    again = run("observe", "customers", *options)
    assert str(boards[1]) in again.json()["kept"]
    assert str(boards[1]) not in again.json()["files"]
    assert boards[1].read_text() == "{}"
    (tmp_path / ".written.json").unlink()
    boards[1].unlink()
    assert boards[1].name in written()
    assert [board.read_bytes() for board in boards] == before


def test_observe_says_what_stands_in_the_way(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dashboards").touch()
    done = run("observe", "customers", "--to", str(tmp_path))
    assert done.code == 2
    assert "executive.json cannot be written" in done.err
    for url in ("localhost:9090", "http://["):
        done = run("observe", "customers", "--to", str(tmp_path / "b"), "--prometheus-url", url)
        assert done.code == 2
        assert "expected as http://localhost:9090" in done.err
    assert not (tmp_path / "b").exists()


def test_a_bundle_of_another_key_does_not_verify(workshop: Any, run_apart: Run) -> None:
    bundle = workshop.home / "models/customers/1"
    done = run_apart("verify", str(bundle))
    assert done.code == 2
    assert "public key" in done.err


# feedback


def test_labels_are_handed_in_and_bad_lines_are_named_without_their_values(
    workshop: Any, run: Run, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    with labels.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "at", "value"])
        writer.writerows([["a", "yes", "", ""], ["b", "no", "2026-01-02T03:04:05Z", "2.5"]])
    assert run("feedback", "customers", str(labels), "--json").json()["labels"] == 2
    bad = ["c,SECRET,,", ",yes,,", "d,no,SECRET,", "e,no,,SECRET", "f,no,,inf"]
    labels.write_text(labels.read_text() + "\n".join(bad) + "\n")
    done = run("feedback", "customers", str(labels))
    assert done.code == 2
    for what in (
        "line 4: the label is not one",
        "line 5: the id is missing",
        "line 6: `at`",
        "line 7: `value` is no number",
        "line 8: `value` is not finite",
    ):
        assert what in done.err
    assert "SECRET" not in done.err
    answer = run("feedback", "customers", str(labels), "--skip-bad", "--json").json()
    assert (answer["labels"], answer["bad_lines"]) == (2, 5)
    spooled = list((workshop.home / "serving/customers/spool/feedback").glob("*.jsonl"))
    assert sum(len(path.read_text().splitlines()) for path in spooled) == 4


def test_a_file_without_the_columns_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("request,truth\na,yes\n")
    done = run("feedback", "customers", str(tmp_path / "labels.csv"))
    assert done.code == 2
    assert "lacks the column 'id'" in done.err


# status and why


def test_status_tells_of_a_model_that_is_not_served(run: Run) -> None:
    answer = run("status", "customers", "--json").json()
    assert (answer["champion"], answer["versions"], answer["workers"]) == ("1", ["1"], 0)
    assert answer["alerts"] == []
    assert len(answer["signed_by"]) == 64
    assert run("status", "--json").json()["models"][0]["model"] == "customers"
    assert "version 1 is champion; no server is running" in run("status").out


def test_status_of_an_empty_home_says_what_to_do(run_apart: Run) -> None:
    done = run_apart("status")
    assert done.code == 0
    assert "steadynet train" in done.out


def test_why_of_a_model_without_decisions(run: Run) -> None:
    assert run("why", "customers", "--json").json() == {
        "model": "customers",
        "decisions": [],
        "problems": [],
    }
    assert "nothing is in the journal of customers yet" in run("why", "customers").out
