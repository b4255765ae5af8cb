"""The registry: runs, versions and aliases in MLflow, with a verified local copy.

MLflow runs on SQLite inside the home, or at any tracking URI. Whatever is changed there, in its
pages or by its own API, comes home by `sync`; whatever is decided here is published by it.

Invariants:
- A bundle's signature is verified before it is registered and when it is pulled.
- A registration that is killed leaves a whole version or none in the local copy; a version that
  MLflow has and the copy has not is pulled by the next `sync`.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from steadynet.bundle.picture import FOLDER
from steadynet.bundle.read import Bundle, verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.errors import BundleError, MissingDependency, RegistryError, UserError
from steadynet.home import Home, check_name
from steadynet.registry.local import CHAMPION, LocalRegistry, ModelVersion
from steadynet.registry.mlflow_model import DIGEST_TAG, find_bundle, save_mlflow_model
from steadynet.registry.record import RunRecord

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Metric
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

_BATCH_PARAMETERS = 100
_BATCH_METRICS = 1000
_BATCH_TAGS = 100
_MAX_PARAMETER_CHARACTERS = 6000
_MAX_TAG_CHARACTERS = 5000
"""MLflow's own limits."""

_CHATTY = ("mlflow.store.db.utils", "mlflow.store.model_registry", "alembic")


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """What `sync` did."""

    added: tuple[str, ...] = ()
    """Versions that came home."""
    refused: dict[str, str] = msgspec.field(default_factory=dict)
    """Version → why it was not taken."""
    aliases: dict[str, str] = msgspec.field(default_factory=dict)
    """The aliases that hold now."""


class Registry:
    """Registers bundles in MLflow and keeps the local copy equal.

    `tracking_uri` defaults to `$MLFLOW_TRACKING_URI`, else SQLite in the home. `public` is the key
    that signatures are verified with; the home's own by default. Raises `MissingDependency` where
    MLflow is not installed.
    """

    def __init__(
        self, home: Home, tracking_uri: str | None = None, *, public: Path | None = None
    ) -> None:
        self.home = home
        self.local = LocalRegistry(home)
        self.tracking_uri = (
            tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or embedded_uri(home)
        )
        self._public = public or signing_key(home).public
        self._connected: MlflowClient | None = None

    def register(
        self, bundle: Bundle, *, run: RunRecord, first_is_champion: bool = True
    ) -> ModelVersion:
        """Log the run and the bundle, and register it as the next version of its name.

        Where no version is champion it becomes it, unless `first_is_champion` is False, as for a
        version that did not pass its gates. Safe to call from several processes at once. Raises
        `BundleTampered` where the bundle is not as it was signed, `RegistryError` otherwise.
        """
        verify_bundle(bundle.path, self._public)
        name = check_name(bundle.manifest.name)
        with self._mlflow() as client:
            run_id = _start_run(client, _experiment(client, name, self._artifacts(name)), run)
            with ExitStack() as cut_short:
                cut_short.callback(client.set_terminated, run_id, status="FAILED")
                _log_record(client, run_id, run)
                if bundle.pictures:
                    client.log_artifacts(run_id, str(bundle.path / FOLDER), FOLDER)
                model = _log_model(client, run_id, bundle)
                version = _create_version(client, name, model, self._source(model))
                cut_short.pop_all()
            client.set_terminated(run_id)
            # Before the copy, so that a registration that is cut off here is whole after a sync.
            crown = first_is_champion and CHAMPION not in (_aliases(client, name) or {})
            if crown:
                client.set_registered_model_alias(name, CHAMPION, version)
            added = self.local.add(bundle, name, version, first_is_champion=crown)
            self._publish(client, name)
        return added

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Point an alias to a version, here and in MLflow; None removes it."""
        self.local.set_alias(name, alias, version)
        with self._mlflow() as client:
            self._publish(client, name)

    def sync(self, name: str) -> Synced:
        """Publish what was decided here, then pull versions and aliases from MLflow.

        A version that cannot be verified is refused and named; an alias never moves to it.
        """
        check_name(name)
        with self._mlflow() as client:
            if _aliases(client, name) is None:
                # What is only here stays as it is.
                return Synced(aliases=self.local.aliases(name))
            self._publish(client, name)
            added, refused = self._pull_versions(client, name)
            self._pull_aliases(name, _aliases(client, name) or {})
        return Synced(added=added, refused=refused, aliases=self.local.aliases(name))

    def _pull_versions(
        self, client: MlflowClient, name: str
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        added: list[str] = []
        refused: dict[str, str] = {}
        here = set(self.local.versions(name))
        for found in client.search_model_versions(f"name = '{name}'"):
            version = str(found.version)
            if version in here or found.status != "READY":
                continue
            try:
                self._pull(client, name, version)
                added.append(version)
            except (BundleError, RegistryError, UserError) as error:
                logger.warning("%s/%s is refused: %s", name, version, error)
                refused[version] = str(error)
        return tuple(sorted(added, key=int)), refused

    def _pull(self, client: MlflowClient, name: str, version: str) -> None:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        with tempfile.TemporaryDirectory() as folder:
            try:
                model = download_artifacts(
                    client.get_model_version_download_uri(name, version),
                    dst_path=folder,
                    tracking_uri=self.tracking_uri,
                )
                bundle = verify_bundle(find_bundle(Path(model)), self._public)
            except (MlflowException, OSError) as error:
                raise RegistryError(
                    f"{name}/{version} cannot be fetched from MLflow", got=type(error).__name__
                ) from error
            self.local.add(bundle, name, version, first_is_champion=False)

    def _pull_aliases(self, name: str, remote: Mapping[str, str]) -> None:
        here = self.local.aliases(name)
        versions = set(self.local.versions(name))
        for alias, version in remote.items():
            if version in versions and here.get(alias) != version:
                self.local.set_alias(name, alias, version, published=True)
        for alias in here.keys() - remote.keys():
            self.local.set_alias(name, alias, None, published=True)

    def _publish(self, client: MlflowClient, name: str) -> None:
        aliases = self.local.read_aliases(name)
        for alias in aliases.unpublished:
            version = aliases.now.get(alias)
            if version is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, version)
            self.local.mark_published(name, alias, version)

    def _source(self, model: LoggedModel) -> str:
        # A server resolves the model's id; a database would look for it at the process-wide
        # tracking URI, which is not ours to set.
        on_server = self.tracking_uri.startswith(("http://", "https://"))
        return f"models:/{model.model_id}" if on_server else str(model.artifact_location)

    def _artifacts(self, name: str) -> str | None:
        # A server or a shared database has its own place for artifacts.
        if self.tracking_uri != embedded_uri(self.home):
            return None
        return (self.home.mlflow / "artifacts" / name).absolute().as_uri()

    @contextmanager
    def _mlflow(self) -> Iterator[MlflowClient]:
        """Yield the client; translate MLflow's errors and keep its chatter off the screen."""
        # Before the import, which reads them. A user's own setting wins.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("DO_NOT_TRACK", "true")
        with _quiet():
            try:
                from mlflow.exceptions import MlflowException
                from mlflow.tracking import MlflowClient
            except ModuleNotFoundError as error:
                raise MissingDependency("mlflow", "train") from error
            try:
                if self._connected is None:
                    self._connected = self._connect(MlflowClient)
                yield self._connected
            except MlflowException as error:
                raise RegistryError(
                    f"MLflow at {_without_password(self.tracking_uri)} refused",
                    got=f"{error.error_code}: {self._redacted(error.message)[:300]}",
                ) from error

    def _redacted(self, message: str) -> str:
        return message.replace(self.tracking_uri, _without_password(self.tracking_uri))

    def _connect(self, client: type[MlflowClient]) -> MlflowClient:
        if self.tracking_uri == embedded_uri(self.home):
            self.home.mlflow.mkdir(parents=True, exist_ok=True)
        return client(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)


def embedded_uri(home: Home) -> str:
    """Return the tracking URI of the MLflow inside the home."""
    return f"sqlite:///{(home.mlflow / 'mlflow.db').absolute()}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MLflow's notes on its own set-up for the time of a call."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [chatty.level for chatty in loggers]
    for chatty in loggers:
        chatty.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # MLflow and its database toolkit warn about each other's next versions.
            warnings.simplefilter("ignore")
            yield
    finally:
        for chatty, level in zip(loggers, levels, strict=True):
            chatty.setLevel(level)


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            # Another process was faster; any other reason comes up again below.
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise RegistryError(
            f"MLflow's experiment {name!r} was deleted", do="Restore it in MLflow, or remove it."
        )
    return str(found.experiment_id)


def _start_run(client: MlflowClient, experiment: str, record: RunRecord) -> str:
    tags = {name: value[:_MAX_TAG_CHARACTERS] for name, value in record.tags.items()}
    return str(client.create_run(experiment, tags=tags).info.run_id)


def _log_record(client: MlflowClient, run_id: str, record: RunRecord) -> None:
    from mlflow.entities import Param

    parameters = [
        Param(name, str(value)[:_MAX_PARAMETER_CHARACTERS])
        for name, value in record.parameters.items()
        if value is not None
    ]
    metrics = _metrics(record)
    for start in range(0, len(parameters), _BATCH_PARAMETERS):
        client.log_batch(run_id, params=parameters[start : start + _BATCH_PARAMETERS])
    for start in range(0, len(metrics), _BATCH_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH_METRICS])


def _metrics(record: RunRecord) -> list[Metric]:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    per_epoch = [
        Metric(name, value, now_ms, epoch)
        for epoch, values in enumerate(record.history)
        for name, value in values.items()
    ]
    last = len(record.history)
    return per_epoch + [Metric(name, value, now_ms, last) for name, value in record.metrics.items()]


def _log_model(client: MlflowClient, run_id: str, bundle: Bundle) -> LoggedModel:
    """Store the bundle as a logged model of the run."""
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(run_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        name=bundle.manifest.name,
        source_run_id=run_id,
        tags={DIGEST_TAG: bundle.manifest_sha256},
        model_type="steadynet",
    )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model"
        save_mlflow_model(saved, bundle, run_id=run_id, model_id=model.model_id)
        client.log_model_artifacts(model.model_id, str(saved))
    return client.finalize_logged_model(model.model_id, "READY")


def _create_version(client: MlflowClient, name: str, model: LoggedModel, source: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        source,
        run_id=model.source_run_id,
        model_id=model.model_id,
        tags={DIGEST_TAG: model.tags[DIGEST_TAG]},
    )
    return str(created.version)


def _aliases(client: MlflowClient, name: str) -> dict[str, str] | None:
    """Return a registered model's aliases, None where MLflow does not know the model."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return {alias: str(version) for alias, version in aliases.items()}


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
