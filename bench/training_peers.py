"""One fit of one peer, in the peers' own environment. Started by `bench/training.py`.

    python bench/training_peers.py PEER DATA.parquet TASK OUT.json SEED THREADS

DATA has the columns, `__target` (class index or number) and `__part` (train, validation, test).
Every peer is fitted as an engineer would at once: its defaults, early stopping on the validation
rows where it has that, categories natively where it takes them, else one-hot or ordinal codes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from one_row import DISTINCT, one_row_ms

warnings.filterwarnings("ignore")


class Data:
    """A table in three parts."""

    def __init__(self, path: Path, task: str) -> None:
        frame = pd.read_parquet(path)
        self.task = task
        self.target = frame.pop("__target").to_numpy()
        part = frame.pop("__part").to_numpy()
        self.rows = {name: np.flatnonzero(part == name) for name in ("train", "validation", "test")}
        self.numbers = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name])]
        self.texts = [name for name in frame if name not in self.numbers]
        frame[self.texts] = frame[self.texts].fillna("missing").astype(str)
        self.frame = frame

    def x(self, part: str) -> pd.DataFrame:
        """Return the features of a part."""
        return self.frame.iloc[self.rows[part]].reset_index(drop=True)

    def y(self, part: str) -> np.ndarray:
        """Return the target of a part."""
        return self.target[self.rows[part]]

    @property
    def is_regression(self) -> bool:
        """Whether the target is a number."""
        return self.task == "regression"


Predict = Callable[[pd.DataFrame], np.ndarray]
"""From features to probabilities (N, C) or predictions (N,)."""


def as_categories(data: Data) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return a step that makes texts pandas categories of the training part."""
    kinds = {
        name: pd.CategoricalDtype(sorted(data.x("train")[name].unique())) for name in data.texts
    }
    return lambda x: x.astype(kinds)


def encoded(data: Data) -> Callable[[pd.DataFrame], np.ndarray]:
    """Return a step that imputes, scales and one-hot encodes, as for a plain network."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=50, sparse_output=False
    )
    step = make_column_transformer((numbers, data.numbers), (texts, data.texts))
    step.fit(data.x("train"))
    return lambda x: np.asarray(step.transform(x), np.float32)


def histgb(data: Data, seed: int, threads: int) -> Predict:
    """scikit-learn's boosted trees; they stop early on a part of the training rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if data.is_regression else HistGradientBoostingClassifier
    prepare = as_categories(data)
    wide = [name for name in data.texts if data.x("train")[name].nunique() > 255]

    def narrow(x: pd.DataFrame) -> pd.DataFrame:
        x = prepare(x)
        return x.assign(**{name: x[name].cat.codes.astype(float) for name in wide})

    model = kind(categorical_features="from_dtype", random_state=seed)
    model.fit(narrow(data.x("train")), data.y("train"))
    return lambda x: (model.predict if data.is_regression else model.predict_proba)(narrow(x))


def lightgbm(data: Data, seed: int, threads: int) -> Predict:
    """LightGBM with early stopping."""
    import lightgbm as peer

    kind = peer.LGBMRegressor if data.is_regression else peer.LGBMClassifier
    prepare = as_categories(data)
    model = kind(n_estimators=1000, random_state=seed, n_jobs=threads, verbose=-1)
    held = (prepare(data.x("validation")), data.y("validation"))
    stop = peer.early_stopping(50, verbose=False)
    model.fit(prepare(data.x("train")), data.y("train"), eval_set=[held], callbacks=[stop])
    return lambda x: (model.predict if data.is_regression else model.predict_proba)(prepare(x))


def xgboost(data: Data, seed: int, threads: int) -> Predict:
    """XGBoost with early stopping."""
    import xgboost as peer

    kind = peer.XGBRegressor if data.is_regression else peer.XGBClassifier
    prepare = as_categories(data)
    model = kind(
        n_estimators=1000,
        early_stopping_rounds=50,
        enable_categorical=True,
        random_state=seed,
        n_jobs=threads,
    )
    held = (prepare(data.x("validation")), data.y("validation"))
    model.fit(prepare(data.x("train")), data.y("train"), eval_set=[held], verbose=False)
    return lambda x: (model.predict if data.is_regression else model.predict_proba)(prepare(x))


def catboost(data: Data, seed: int, threads: int) -> Predict:
    """CatBoost with early stopping."""
    import catboost as peer

    kind = peer.CatBoostRegressor if data.is_regression else peer.CatBoostClassifier
    model = kind(
        random_seed=seed,
        thread_count=threads,
        cat_features=data.texts,
        verbose=False,
        allow_writing_files=False,
        early_stopping_rounds=50,
    )
    held = (data.x("validation"), data.y("validation"))
    model.fit(data.x("train"), data.y("train"), eval_set=held)
    return lambda x: (model.predict if data.is_regression else model.predict_proba)(x)


def sklearn_mlp(data: Data, seed: int, threads: int) -> Predict:
    """scikit-learn's perceptron; it stops early on a part of the training rows."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPRegressor if data.is_regression else MLPClassifier
    prepare = encoded(data)
    model = kind(early_stopping=True, random_state=seed)
    center, scale = _units(data)
    model.fit(
        prepare(data.x("train")), (data.y("train") - center) / scale if scale else data.y("train")
    )
    if data.is_regression:
        return lambda x: model.predict(prepare(x)) * scale + center
    return lambda x: model.predict_proba(prepare(x))


def _units(data: Data) -> tuple[float, float]:
    """Return center and scale of a number; the scale is 0 for classes."""
    if not data.is_regression:
        return 0.0, 0.0
    return float(data.y("train").mean()), float(data.y("train").std())


def lightning_mlp(data: Data, seed: int, threads: int) -> Predict:
    """A perceptron of two layers of 256 in Lightning, as many write it: AdamW, early stopping."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    lightning.seed_everything(seed, verbose=False)
    prepare = encoded(data)
    center, scale = _units(data)
    classes = 1 if data.is_regression else int(data.target.max()) + 1
    loss = torch.nn.functional.mse_loss if data.is_regression else torch.nn.functional.cross_entropy

    def loader(part: str) -> Any:
        x = torch.from_numpy(prepare(data.x(part)))
        y = data.y(part)
        coded = (
            torch.tensor((y - center) / scale, dtype=torch.float32) if scale else torch.tensor(y)
        )
        rows = torch.utils.data.TensorDataset(x, coded)
        return torch.utils.data.DataLoader(rows, 256, shuffle=part == "train")

    class Net(lightning.LightningModule):
        def __init__(self, features: int) -> None:
            super().__init__()
            layers: list[torch.nn.Module] = []
            for entering, leaving in ((features, 256), (256, 256)):
                layers += [
                    torch.nn.Linear(entering, leaving),
                    torch.nn.ReLU(),
                    torch.nn.Dropout(0.1),
                ]
            self.net = torch.nn.Sequential(*layers, torch.nn.Linear(256, classes))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made = self.net(x)
            return made[:, 0] if data.is_regression else made

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return loss(self(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("held", loss(self(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    net = Net(prepare(data.x("test")[:1]).shape[1])
    best = ModelCheckpoint(monitor="held", dirpath=f"/tmp/steadynet-bench-{time.time_ns()}")
    trainer = lightning.Trainer(
        max_epochs=100,
        callbacks=[EarlyStopping("held", patience=10), best],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(net, loader("train"), loader("validation"))
    net.load_state_dict(torch.load(best.best_model_path, weights_only=True)["state_dict"])
    net.eval()

    def predict(x: pd.DataFrame) -> np.ndarray:
        with torch.inference_mode():
            made = net(torch.from_numpy(prepare(x)))
            if data.is_regression:
                return made.numpy() * scale + center
            return torch.softmax(made, 1).numpy()

    return predict


def _pytabkit(name: str, data: Data, seed: int, threads: int) -> Predict:
    import pytabkit

    kind = vars(pytabkit)[f"{name}_{'Regressor' if data.is_regression else 'Classifier'}"]
    model = kind(random_state=seed, device="cpu", n_threads=threads, verbosity=0)
    prepare = as_categories(data)
    both = pd.concat([data.x("train"), data.x("validation")], ignore_index=True)
    target = np.concatenate([data.y("train"), data.y("validation")])
    held = np.arange(len(data.rows["train"]), len(both))
    fill = data.x("train")[data.numbers].median()
    full = lambda x: prepare(x.fillna(fill))  # noqa: E731  a step, like the others
    model.fit(full(both), target, val_idxs=held, cat_col_names=data.texts)
    return lambda x: (model.predict if data.is_regression else model.predict_proba)(full(x))


def realmlp(data: Data, seed: int, threads: int) -> Predict:
    """RealMLP with tuned defaults."""
    return _pytabkit("RealMLP_TD", data, seed, threads)


def tabm(data: Data, seed: int, threads: int) -> Predict:
    """TabM with its defaults."""
    return _pytabkit("TabM_D", data, seed, threads)


PEERS: dict[str, Callable[[Data, int, int], Predict]] = {
    "HistGB": histgb,
    "LightGBM": lightgbm,
    "XGBoost": xgboost,
    "CatBoost": catboost,
    "sklearn MLP": sklearn_mlp,
    "Lightning MLP": lightning_mlp,
    "RealMLP-TD": realmlp,
    "TabM": tabm,
}
TAKE_VALUES = frozenset({"CatBoost"})
"""Peers whose call, made by `PEERS`, also takes the list of one row's values."""


def cpu_seconds() -> float:
    """Return the processor time of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in used)


def main() -> None:
    """Fit, predict the test part, write what came out."""
    peer, path, task, out, seed, threads = sys.argv[1:]
    import torch

    torch.set_num_threads(int(threads))
    data = Data(Path(path), task)
    started, cpu = time.perf_counter(), cpu_seconds()
    predict = PEERS[peer](data, int(seed), int(threads))
    took, used = time.perf_counter() - started, cpu_seconds() - cpu
    answers = np.asarray(predict(data.x("test")), np.float64)
    test = data.x("test").head(DISTINCT)
    row = {
        "fit_s": took,
        "cpu_s": used,
        "row_ms": one_row_ms(predict, [test[place : place + 1] for place in range(len(test))]),
        "answers": answers.tolist(),
    }
    if peer in TAKE_VALUES:
        row["values_ms"] = one_row_ms(predict, test.to_numpy(object).tolist())
    Path(out).write_text(json.dumps(row))


if __name__ == "__main__":
    main()
