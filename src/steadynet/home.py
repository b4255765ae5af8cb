"""Where state lies: every path below the home folder, in one place.

$STEADYNET_HOME (default ./.steadynet)
├── keys/signing.pem, signing.pub.pem      made on first use, never overwritten
├── keys/callers.json                      digests of the keys that callers present
├── mlflow/mlflow.db, mlflow/artifacts/    the embedded registry
├── models/<name>/<version>/               bundles, read-only once there
├── models/<name>/aliases.json             local copy of the registry's aliases
├── runs/<id>/                             checkpoints and logs of trainings
├── control.db                             the control store, unless store.url names another
├── journal/<name>.json                    newest entry of a journal, signed
├── store.url                              the control store's URL; it may hold a password
└── serving/<name>/
    ├── route.json                         what the workers shall do, written by the controller
    ├── server.json                        host, port and process ids of the running server
    ├── workers/<worker>.json              what each worker is doing
    ├── metrics/<worker>.json              what each worker has counted
    ├── findings.json                      what the controller found, for the workers to tell
    └── spool/{windows,rows,feedback}/     what workers and the CLI hand to the controller
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from steadynet.errors import UserError

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def check_name(name: str) -> str:
    """Return `name` where it can name a model; raise `UserError` otherwise."""
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(
            "that is no name for a model",
            expected="1 to 100 letters, digits, '_', '-' or '.', starting with a letter or digit",
            got=repr(name[:120]),
        )
    return name


@dataclass(frozen=True)
class Home:
    """The folder that holds all state."""

    root: Path

    @classmethod
    def default(cls) -> Home:
        """Return `$STEADYNET_HOME`, else `./.steadynet`."""
        return cls(Path(os.environ.get("STEADYNET_HOME") or ".steadynet").absolute())

    @property
    def keys(self) -> Path:
        """Folder of the signing key."""
        return self.root / "keys"

    @property
    def caller_keys(self) -> Path:
        """The file of the keys that callers present."""
        return self.keys / "callers.json"

    @property
    def mlflow(self) -> Path:
        """Folder of the embedded MLflow."""
        return self.root / "mlflow"

    @property
    def runs(self) -> Path:
        """Folder of training runs."""
        return self.root / "runs"

    @property
    def control_db(self) -> Path:
        """The control store's SQLite file."""
        return self.root / "control.db"

    @property
    def store_url(self) -> Path:
        """The file that names the control store where it is not `control_db`."""
        return self.root / "store.url"

    def model(self, name: str) -> Path:
        """Folder of a model's versions and aliases."""
        return self.root / "models" / check_name(name)

    def serving(self, name: str) -> Path:
        """Folder that a model's server and controller share."""
        return self.root / "serving" / check_name(name)

    def route(self, name: str) -> Path:
        """The file that tells workers which versions answer."""
        return self.serving(name) / "route.json"

    def server(self, name: str) -> Path:
        """The file that describes the running server."""
        return self.serving(name) / "server.json"

    def workers(self, name: str) -> Path:
        """Folder of the workers' status files."""
        return self.serving(name) / "workers"

    def metrics(self, name: str) -> Path:
        """Folder of the workers' counts for Prometheus."""
        return self.serving(name) / "metrics"

    def findings(self, name: str) -> Path:
        """The file of what the controller found last."""
        return self.serving(name) / "findings.json"

    def spool(self, name: str, kind: str) -> Path:
        """Folder of one kind of spooled records: windows, rows or feedback."""
        return self.serving(name) / "spool" / kind
