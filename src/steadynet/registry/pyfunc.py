"""How MLflow loads a bundle: `mlflow.pyfunc.load_model` imports this module by name.

The bundle lies in the MLflow model as it was signed, so that nothing is pickled. Its files and
golden rows are checked at each load, and its signature too where `STEADYNET_PUBLIC_KEY` names
the signer's public key.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadynet.bundle.manifest import MANIFEST
from steadynet.bundle.read import Bundle, open_bundle, verify_bundle
from steadynet.files import sha256_file
from steadynet.runtime.answers import as_columns
from steadynet.runtime.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd

PUBLIC_KEY_VARIABLE = "STEADYNET_PUBLIC_KEY"


class BundleModel:
    """A bundle with the interface that MLflow expects of a model."""

    def __init__(self, bundle: Bundle) -> None:
        self._predictor = Predictor(bundle)
        self._predictor.check_golden()

    def predict(
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one row per row, with the columns of `runtime.answers.as_columns`.

        Raises `InputError` where a column is missing or holds what does not fit.
        """
        import pandas as pd

        # Every spelling of "no value" that pandas has becomes None.
        table = {
            str(name): column.astype(object).where(column.notna(), None).tolist()
            for name, column in model_input.items()
        }
        answers = self._predictor.run(self._predictor.decoder.table(table))
        columns = as_columns(answers, self._predictor.schema)
        return pd.DataFrame(columns, index=model_input.index)


def _load_pyfunc(path: str) -> BundleModel:
    folder = Path(path)
    public = os.environ.get(PUBLIC_KEY_VARIABLE)
    if public:
        return BundleModel(verify_bundle(folder, Path(public)))
    return BundleModel(open_bundle(folder, manifest_sha256=sha256_file(folder / MANIFEST)))
