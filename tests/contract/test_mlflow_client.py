"""MLflow's own scoring client, against our server."""

from __future__ import annotations

import warnings
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

with warnings.catch_warnings():
    # MLflow warns of its own type hints while it is imported.
    warnings.simplefilter("ignore")
    from mlflow.pyfunc.scoring_server import _split_data_and_params
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

COLUMNS = ["amount", "label", "country", "new_card", "paid_at"]
ROWS: list[list[Any]] = [
    [12.5, 0.5, "DE", True, "2026-01-01T10:00:00"],
    [480.0, -0.5, "FR", False, "2026-01-02T11:30:00"],
]


@pytest.fixture
def client(served: dict[str, Any]) -> ScoringServerClient:
    """MLflow's client of the server."""
    return ScoringServerClient(served["host"], served["port"])


def records(client: ScoringServerClient, data: Any, **options: Any) -> list[dict[str, Any]]:
    """Return the answer to rows as MLflow's client reads it."""
    found = client.invoke(data, **options).get_predictions()
    answer: list[dict[str, Any]] = found.to_dict(orient="records")
    return answer


def test_ping_and_version(client: ScoringServerClient) -> None:
    client.ping()
    client.wait_server_ready(timeout=30)
    assert client.get_version()


def test_every_kind_of_data_has_the_same_answer(client: ScoringServerClient) -> None:
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    expected = records(client, frame)
    names = {"label", "probability_legit", "probability_fraud"}
    assert [set(record) for record in expected] == [names] * 2
    first, second = ([row[f"probability_{c}"] for c in ("legit", "fraud")] for row in expected)
    assert sum(first) == pytest.approx(1.0, abs=1e-5)
    assert first != second
    assert records(client, np.array(ROWS, dtype=object)) == expected
    assert records(client, frame, params={"threshold": 0.5}) == expected
    typed = frame.assign(paid_at=pd.to_datetime(frame["paid_at"]))
    assert records(client, typed) == expected


def test_missing_values_of_pandas(client: ScoringServerClient, served: dict[str, Any]) -> None:
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    frame.loc[0, "amount"] = np.nan
    frame.loc[1, "country"] = None
    rows = [[None, *ROWS[0][1:]], [*ROWS[1][:2], None, *ROWS[1][3:]]]
    split = {"dataframe_split": {"columns": COLUMNS, "data": rows}}
    by_null = httpx.post(f"{served['url']}/invocations", json=split).json()["predictions"]
    assert records(client, frame) == by_null


def test_csv_as_pandas_writes_it(client: ScoringServerClient, served: dict[str, Any]) -> None:
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    answer = httpx.post(
        f"{served['url']}/invocations",
        content=frame.to_csv(index=False),
        headers={"content-type": "text/csv; charset=utf-8"},
    )
    assert answer.json()["predictions"] == records(client, frame)


@pytest.mark.parametrize(
    "content",
    [
        '{"instances": [[NaN]]}',
        '{"instances": [[NaN}',
        '{"instances": NaN}',
        '{"dataframe_split": {"columns": ["amount"], "data": [[Infinity, 1]]}}',
        "NaN",
    ],
)
def test_wrong_bodies_with_pythons_numbers(served: dict[str, Any], content: str) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{served['url']}/invocations", content=content, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_what_mlflow_takes_we_take() -> None:
    """MLflow's server splits off `params` and takes exactly the formats that we name."""
    from steadynet.serving.invocations import FORMATS

    for name in FORMATS:
        data, params = _split_data_and_params(f'{{"{name}": [], "params": {{"a": 1}}}}')
        assert (list(data), params) == ([name], {"a": 1})
