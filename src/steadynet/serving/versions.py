"""A version in a worker's memory: its checked bundle, its session and what serving asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import thread_time

from steadynet.bundle.manifest import Manifest
from steadynet.bundle.profile import Profile
from steadynet.bundle.read import Bundle, open_bundle
from steadynet.rollout.route import Endpoint
from steadynet.runtime.batching import Arrays, Columns, Table
from steadynet.runtime.predictor import Predictor
from steadynet.spec.kinds import Kind
from steadynet.table.schema import Schema

MEASURED_ROWS = 32
MEASURED_RUNS = 5
MEASURED_ENOUGH_S = 0.02
"""A batch that takes longer than this is slow; there is no need to run it again to know it."""


class LoadedVersion:
    """A version whose digests were checked and whose golden rows passed on this machine.

    Meets `runtime.batching.Scorer`; safe to call from several threads.
    """

    def __init__(
        self, model: str, endpoint: Endpoint, bundle: Bundle, predictor: Predictor
    ) -> None:
        self.endpoint = endpoint
        self.version = endpoint.version
        self.manifest: Manifest = bundle.manifest
        self.schema: Schema = bundle.manifest.schema
        self.profile: Profile = bundle.profile()
        self.columns = tuple(column.name for column in self.schema.features)
        self.all_numbers = all(
            column.kind in ("number", "boolean") for column in self.schema.features
        )
        """Whether all columns can be sent together as one tensor [N, D]."""
        self.categories = self._names_of("category")
        self.datetimes = self._names_of("datetime")
        self.outputs = predictor.outputs
        self.headers: list[tuple[bytes, bytes]] = [
            (b"x-model-name", model.encode()),
            (b"x-model-version", endpoint.version.encode()),
        ]
        """What every answer of this version says of itself."""
        self._predictor = predictor
        self._decoder = predictor.decoder
        self.batch_s = self._measure(bundle)
        """Shortest processor time of a batch of `MEASURED_ROWS` rows, seconds: what the event loop
        would lose to it, whatever else the machine is busy with."""

    def decode(self, table: Table) -> Columns:
        """Return columns; raise `InputError` for what does not fit the schema."""
        return self._decoder.table(table)

    def run(self, columns: Columns) -> Arrays:
        """Return the graph's outputs, one row per row."""
        return self._predictor.run_watched(columns)

    def _names_of(self, kind: Kind) -> frozenset[str]:
        return frozenset(column.name for column in self.schema.features if column.kind == kind)

    def _measure(self, bundle: Bundle) -> float:
        golden = [row.inputs for row in bundle.golden()]
        rows: Sequence[dict[str, str | float | int | bool | None]] = [
            golden[position % len(golden)] for position in range(MEASURED_ROWS)
        ]
        columns = self._decoder.rows(rows)
        best = float("inf")
        for _ in range(MEASURED_RUNS):
            began = thread_time()
            self._predictor.run(columns)
            best = min(best, thread_time() - began)
            if best > MEASURED_ENOUGH_S:
                break
        return best


def load_version(model: str, endpoint: Endpoint) -> LoadedVersion:
    """Open, check, load and try a version.

    Raises `BundleError` where it must not be used here, among them `GoldenMismatch`.
    """
    bundle = open_bundle(Path(endpoint.bundle), manifest_sha256=endpoint.manifest_sha256)
    predictor = Predictor(bundle)
    predictor.check_golden()
    return LoadedVersion(model, endpoint, bundle, predictor)
