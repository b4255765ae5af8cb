"""A model of MLflow from code: `python mlflow_app.py save FOLDER`, then `mlflow models serve`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

sys.path.insert(0, os.environ["BENCH_APPS"])
from network import Network


class Bench(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]
    def load_context(self, context: Any) -> None:
        self.network = Network()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        if self.network.is_matrix:
            return self.network.rows(np.asarray(model_input).tolist())["probabilities"]
        feed = {
            name: model_input[[name]].to_numpy(dtype=kind)
            for name, kind in self.network.kinds.items()
        }
        return self.network.run(feed)["probabilities"]


if __name__ == "__main__":
    mlflow.pyfunc.save_model(  # type: ignore[attr-defined]
        sys.argv[2], python_model=str(Path(__file__)), pip_requirements=["mlflow"]
    )
else:
    mlflow.models.set_model(Bench())
