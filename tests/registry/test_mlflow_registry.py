"""MLflow and the local copy hold the same versions and aliases, whoever changed them."""

from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest

from steadynet.bundle.read import Bundle, open_bundle
from steadynet.bundle.sign import ensure_key
from steadynet.errors import BundleTampered, RegistryError
from steadynet.home import Home
from steadynet.registry.local import LocalRegistry
from steadynet.registry.mlflow_registry import Registry, _quiet, _without_password, embedded_uri
from steadynet.registry.record import RunRecord

with _quiet():
    from mlflow.tracking import MlflowClient

MakeBundle = Callable[..., Bundle]


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh MLflow database, made once: its migrations take seconds."""
    home = Home(tmp_path_factory.mktemp("mlflow"))
    Registry(home).sync("nothing")
    return (home.mlflow / "mlflow.db").read_bytes()


@pytest.fixture
def registry(home: Home, empty_mlflow: bytes, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry of a home whose MLflow is set up and empty."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home.mlflow.mkdir(parents=True)
    (home.mlflow / "mlflow.db").write_bytes(empty_mlflow)
    ensure_key(home)
    return Registry(home)


@pytest.fixture
def mlflow_client(registry: Registry) -> MlflowClient:
    """What somebody else changes MLflow with."""
    return MlflowClient(registry.tracking_uri, registry.tracking_uri)


def champion(client: MlflowClient) -> str:
    return str(client.get_model_version_by_alias("payments", "champion").version)


RECORD = RunRecord(
    parameters={"training.width": 256, "table.target": "fraud", "training.time_limit_s": None},
    history=({"train.loss": 0.7, "validation.loss": 0.6}, {"train.loss": 0.5}),
    metrics={"test.auc": 0.81, "linear.auc": 0.79},
    tags={"snapshot_sha256": "0" * 64},
)


def test_a_run_is_logged_with_all_that_is_known(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle()
    version = registry.register(bundle, run=RECORD)
    assert (version.name, version.version) == ("payments", "1")
    found = mlflow_client.get_model_version("payments", "1")
    assert found.tags["steadynet.manifest_sha256"] == bundle.manifest_sha256
    run = mlflow_client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"training.width": "256", "table.target": "fraud"}
    assert run.data.metrics["test.auc"] == 0.81
    assert run.data.tags["snapshot_sha256"] == "0" * 64
    history = mlflow_client.get_metric_history(run.info.run_id, "train.loss")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.7), (1, 0.5)]
    [model] = run.outputs.model_outputs
    logged = mlflow_client.get_logged_model(model.model_id)
    assert logged.tags["steadynet.manifest_sha256"] == bundle.manifest_sha256
    assert logged.status == "READY"


def test_artifacts_lie_inside_the_home(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle, home: Home
) -> None:
    registry.register(make_bundle(), run=RunRecord())
    source = mlflow_client.get_model_version_download_uri("payments", "1")
    folder = Path(url2pathname(urlparse(source).path))
    assert folder.is_relative_to(home.mlflow)
    assert (folder / "MLmodel").is_file()
    assert not list(folder.rglob("*.pkl")), "nothing is pickled"


def test_the_local_copy_is_the_bundle(registry: Registry, make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    version = registry.register(bundle, run=RunRecord())
    assert version.manifest_sha256 == bundle.manifest_sha256
    assert open_bundle(version.bundle, manifest_sha256=bundle.manifest_sha256)


def test_the_first_version_becomes_champion_in_both_places(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle
) -> None:
    registry.register(make_bundle(seed=1), run=RunRecord())
    registry.register(make_bundle(seed=2), run=RunRecord())
    assert registry.local.aliases("payments") == {"champion": "1"}
    assert champion(mlflow_client) == "1"
    assert registry.local.read_aliases("payments").unpublished == ()


def test_a_version_that_failed_its_gates_is_not_crowned(
    registry: Registry, make_bundle: MakeBundle
) -> None:
    registry.register(make_bundle(seed=1), run=RunRecord(), first_is_champion=False)
    assert registry.sync("payments").aliases == {}
    registry.register(make_bundle(seed=2), run=RunRecord())
    assert registry.sync("payments").aliases == {"champion": "2"}


def test_another_machines_champion_is_not_dethroned_by_a_registration(
    registry: Registry,
    mlflow_client: MlflowClient,
    make_bundle: MakeBundle,
    tmp_path: Path,
    home: Home,
) -> None:
    registry.register(make_bundle(seed=1), run=RunRecord())
    other = Registry(
        Home(tmp_path / "other"), registry.tracking_uri, public=ensure_key(home).public
    )
    assert other.register(make_bundle(seed=2), run=RunRecord()).version == "2"
    assert champion(mlflow_client) == "1"
    assert other.sync("payments").aliases == {"champion": "1"}


def test_an_alias_moves_in_both_places(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle
) -> None:
    for seed in (1, 2):
        registry.register(make_bundle(seed=seed), run=RunRecord())
    registry.set_alias("payments", "champion", "2")
    registry.set_alias("payments", "challenger", "1")
    assert champion(mlflow_client) == "2"
    assert registry.local.previous("payments", "champion") == "1"
    registry.set_alias("payments", "challenger", None)
    assert set(mlflow_client.get_registered_model("payments").aliases) == {"champion"}


def test_what_was_changed_in_mlflow_comes_home(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle
) -> None:
    for seed in (1, 2):
        registry.register(make_bundle(seed=seed), run=RunRecord())
    mlflow_client.set_registered_model_alias("payments", "champion", "2")
    mlflow_client.set_registered_model_alias("payments", "audited", "1")
    assert registry.sync("payments").aliases == {"champion": "2", "audited": "1"}
    assert registry.local.previous("payments", "champion") == "1"
    mlflow_client.delete_registered_model_alias("payments", "audited")
    assert registry.sync("payments").aliases == {"champion": "2"}


def test_what_was_decided_here_is_published_before_anything_is_pulled(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle, home: Home
) -> None:
    for seed in (1, 2):
        registry.register(make_bundle(seed=seed), run=RunRecord())
    LocalRegistry(home).set_alias("payments", "champion", "2")
    assert champion(mlflow_client) == "1"
    assert registry.sync("payments").aliases == {"champion": "2"}
    assert champion(mlflow_client) == "2"


def test_another_machine_pulls_and_verifies(
    registry: Registry, make_bundle: MakeBundle, tmp_path: Path, home: Home
) -> None:
    bundle = make_bundle()
    registry.register(bundle, run=RunRecord())
    other = Registry(
        Home(tmp_path / "other"), registry.tracking_uri, public=ensure_key(home).public
    )
    synced = other.sync("payments")
    assert synced.added == ("1",)
    assert other.local.resolve("payments").manifest_sha256 == bundle.manifest_sha256
    assert other.sync("payments").added == ()


def test_a_version_that_was_tampered_with_is_refused_and_gets_no_alias(
    registry: Registry,
    mlflow_client: MlflowClient,
    make_bundle: MakeBundle,
    tmp_path: Path,
    home: Home,
) -> None:
    registry.register(make_bundle(), run=RunRecord())
    source = mlflow_client.get_model_version_download_uri("payments", "1")
    [model] = Path(url2pathname(urlparse(source).path)).rglob("model.onnx")
    model.write_bytes(b"other")
    other = Registry(
        Home(tmp_path / "other"), registry.tracking_uri, public=ensure_key(home).public
    )
    synced = other.sync("payments")
    assert synced.added == ()
    assert "model.onnx was changed" in synced.refused["1"]
    assert synced.aliases == {}


def test_a_version_signed_by_a_stranger_is_refused(
    registry: Registry, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    registry.register(make_bundle(), run=RunRecord())
    stranger = Home(tmp_path / "other")
    other = Registry(stranger, registry.tracking_uri, public=ensure_key(stranger).public)
    assert "another key" in other.sync("payments").refused["1"]


def test_a_model_that_is_no_bundle_is_refused(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    registry.register(make_bundle(), run=RunRecord())
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "MLmodel").write_text(
        json.dumps({"flavors": {"python_function": {"loader_module": "os", "data": "../.."}}})
    )
    mlflow_client.create_model_version("payments", foreign.as_uri())
    synced = registry.sync("payments")
    assert "no steadynet bundle" in synced.refused["2"]
    assert registry.local.versions("payments") == ("1",)


def test_a_tampered_bundle_is_not_registered(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle()
    (bundle.path / "README.md").write_text("better than it is")
    with pytest.raises(BundleTampered, match=r"README\.md was changed"):
        registry.register(bundle, run=RunRecord())
    assert mlflow_client.search_registered_models() == []


def test_an_experiment_that_was_deleted_says_so(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle
) -> None:
    registry.register(make_bundle(seed=1), run=RunRecord())
    experiment = mlflow_client.get_experiment_by_name("payments")
    mlflow_client.delete_experiment(experiment.experiment_id)
    with pytest.raises(RegistryError, match="was deleted"):
        registry.register(make_bundle(seed=2), run=RunRecord())


def test_a_failed_registration_fails_its_run(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle, home: Home
) -> None:
    registry.register(make_bundle(seed=1), run=RunRecord())
    artifacts = home.mlflow / "artifacts" / "payments"
    artifacts.rename(home.mlflow / "moved")
    artifacts.write_text("in the way")
    with pytest.raises((RegistryError, OSError)):
        registry.register(make_bundle(seed=2), run=RunRecord())
    experiment = mlflow_client.get_experiment_by_name("payments")
    runs = mlflow_client.search_runs([experiment.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]
    assert registry.local.versions("payments") == ("1",)


def test_sync_of_an_unknown_model_changes_nothing(registry: Registry) -> None:
    synced = registry.sync("churn")
    assert (synced.added, synced.refused, synced.aliases) == ((), {}, {})


def test_sync_leaves_alone_what_mlflow_never_knew(
    registry: Registry, make_bundle: MakeBundle
) -> None:
    registry.local.add(make_bundle(), "payments", "1")
    assert registry.sync("payments").aliases == {"champion": "1"}
    assert registry.local.read_aliases("payments").unpublished == ("champion",)


def test_a_tracking_uri_of_the_environment_is_used(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere.db")
    assert Registry(home).tracking_uri == "sqlite:////elsewhere.db"
    assert Registry(home, "http://mlflow").tracking_uri == "http://mlflow"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Registry(home).tracking_uri == embedded_uri(home)


def test_a_server_that_does_not_answer_is_an_error_without_its_password(
    home: Home, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry(home, "http://ann:secret@127.0.0.1:9")
    with pytest.raises(RegistryError) as caught:
        registry.register(make_bundle(), run=RunRecord())
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    assert _without_password("postgresql://u:p@host/db") == "postgresql://host/db"
    assert _without_password("sqlite:////home/a.db") == "sqlite:////home/a.db"


def _register_in_process(root: str, bundle: str, digest: str) -> None:
    opened = open_bundle(Path(bundle), manifest_sha256=digest)
    Registry(Home(Path(root))).register(opened, run=RECORD)


def test_processes_that_register_at_once_get_versions_of_their_own(
    registry: Registry, mlflow_client: MlflowClient, make_bundle: MakeBundle, home: Home
) -> None:
    bundles = [make_bundle(seed=seed) for seed in (1, 2)]
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=_register_in_process,
            args=(str(home.root), str(bundle.path), bundle.manifest_sha256),
        )
        for bundle in bundles
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert registry.local.versions("payments") == ("1", "2")
    local = {registry.local.version("payments", v).manifest_sha256 for v in ("1", "2")}
    assert local == {bundle.manifest_sha256 for bundle in bundles}
    for version in ("1", "2"):
        found = mlflow_client.get_model_version("payments", version)
        here = registry.local.version("payments", version)
        assert found.tags["steadynet.manifest_sha256"] == here.manifest_sha256


DIE_BEFORE_COPY = """
import os, signal, sys
from pathlib import Path
from steadynet.bundle.read import open_bundle
from steadynet.home import Home
from steadynet.registry.mlflow_registry import Registry
from steadynet.registry.record import RunRecord
bundle = open_bundle(Path(sys.argv[1]), manifest_sha256=sys.argv[3])
def die(event, arguments):
    if event == "open" and "/.1." in str(arguments[0]) and "model.onnx" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
Registry(Home(Path(sys.argv[2]))).register(bundle, run=RunRecord())
"""


def test_a_killed_registration_is_completed_by_sync(
    registry: Registry, make_bundle: MakeBundle, home: Home
) -> None:
    bundle = make_bundle()
    arguments = [str(bundle.path), str(home.root), bundle.manifest_sha256]
    done = subprocess.run([sys.executable, "-c", DIE_BEFORE_COPY, *arguments], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert registry.local.versions("payments") == ()
    assert registry.sync("payments").added == ("1",)
    assert registry.local.resolve("payments").manifest_sha256 == bundle.manifest_sha256


FIRST_USE = """
import sys
from pathlib import Path
from steadynet.bundle.read import open_bundle
from steadynet.home import Home
from steadynet.registry.mlflow_registry import Registry
from steadynet.registry.record import RunRecord
bundle = open_bundle(Path(sys.argv[1]), manifest_sha256=sys.argv[3])
registry = Registry(Home(Path(sys.argv[2])))
registry.register(bundle, run=RunRecord())
registry.sync("payments")
"""


def test_the_first_use_is_silent_and_stays_in_the_home(
    home: Home, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    bundle = make_bundle()
    arguments = [str(bundle.path), str(home.root), bundle.manifest_sha256]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=work,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(work.iterdir()) == []
    assert (home.mlflow / "mlflow.db").is_file()
