"""The HTTP edge in process: MLflow's format, feedback, limits, statuses, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import httpx
import pytest

from steadynet import errors
from steadynet.home import Home
from steadynet.monitoring.records import Feedback, LoggedRow
from steadynet.rollout.route import Route
from steadynet.runtime.spool import read_spool
from steadynet.serving.answers import status_of
from steadynet.serving.dataplane import DataPlane
from steadynet.serving.versions import LoadedVersion

T = TypeVar("T")
Load = Callable[..., LoadedVersion]
MakeRoute = Callable[..., Route]
OpenPlane = Callable[..., AbstractAsyncContextManager[DataPlane]]
OpenClient = Callable[..., httpx.AsyncClient]
WithClient = Callable[..., Any]

ROW: dict[str, Any] = {
    "amount": 12.5,
    "label": 0.5,
    "country": "DE",
    "new_card": True,
    "paid_at": "2026-01-01T10:00:00",
}
CSV = "amount,label,country,new_card,paid_at\n12.5,0.5,DE,true,2026-01-01T10:00:00\n"


def infer_body(rows: int = 1, **changes: Any) -> dict[str, Any]:
    """Return an Open Inference Protocol request."""
    row = {**ROW, **changes}
    datatypes = {bool: "BOOL", float: "FP64", int: "INT64", str: "BYTES"}
    inputs = [
        {"name": name, "shape": [rows], "datatype": datatypes[type(value)], "data": [value] * rows}
        for name, value in row.items()
    ]
    return {"inputs": inputs}


SAME_ROW_TWICE: list[dict[str, Any]] = [
    {"dataframe_records": [ROW, ROW]},
    {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())] * 2}},
    {"dataframe_split": {"index": [5, 7], "columns": list(ROW), "data": [list(ROW.values())] * 2}},
    {"instances": [ROW, ROW]},
    {"instances": [list(ROW.values())] * 2},
    {"inputs": {name: [value] * 2 for name, value in ROW.items()}},
    {"inputs": {name: [[value]] * 2 for name, value in ROW.items()}},
    {"inputs": [ROW, ROW]},
    {"dataframe_records": [{**ROW, "unused": 1}, ROW], "params": {"threshold": 0.5}},
]


def test_mlflows_formats_mean_the_same(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        answers = [await client.post("/invocations", json=body) for body in SAME_ROW_TWICE]
        csv = {"content-type": "text/csv"}
        twice = CSV + CSV.splitlines()[1] + "\n"
        answers.append(await client.post("/invocations", content=twice, headers=csv))
        with_mark = "\ufeff" + twice.replace("\n", "\r\n")
        answers.append(await client.post("/invocations", content=with_mark, headers=csv))
        direct = (await client.post("/v2/models/payments/infer", json=infer_body(2))).json()
        label, probabilities = (output["data"] for output in direct["outputs"])
        for answer in answers:
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-model-version"] == "1"
            assert list(answer.json()) == ["predictions"]
            for position, record in enumerate(answer.json()["predictions"]):
                assert record == {
                    "label": label[position],
                    "probability_legit": probabilities[2 * position],
                    "probability_fraud": probabilities[2 * position + 1],
                }

    with_client(work)


def test_a_regression_is_answered_with_its_interval(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        answer = await client.post("/invocations", json={"instances": [ROW]})
        (record,) = answer.json()["predictions"]
        assert record["lower"] < record["prediction"] < record["upper"]
        outputs = (await client.post("/v2/models/payments/infer", json=infer_body())).json()[
            "outputs"
        ]
        assert [(item["name"], item["shape"]) for item in outputs] == [
            ("prediction", [1]),
            ("lower", [1]),
            ("upper", [1]),
        ]

    with_client(work, task="regression")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "exactly one of dataframe_split"),
        ({"instances": [ROW], "inputs": [ROW]}, "2 of them"),
        ({"instances": []}, "no rows"),
        ({"instances": [1, 2]}, "the rows cannot be read"),
        ({"instances": [ROW, [1]]}, "the rows cannot be read"),
        ({"instances": [[1, 2]]}, "5 values"),
        ({"dataframe_records": [ROW, {"amount": 1}]}, "'label' is missing in row 1"),
        ({"dataframe_records": "x"}, "the body does not fit"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 1]]}}, "same name"),
        ({"dataframe_split": {"columns": ["a"], "data": []}}, "no rows"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}, "row 0 has another length"),
        ({"inputs": 7}, "inputs cannot be read"),
        ({"inputs": {}}, "no columns"),
        ({"inputs": {**{name: [value] for name, value in ROW.items()}, "amount": [1, 2]}}, "1, 2"),
        ({"instances": [{**ROW, "amount": {"a": 1}}]}, "an object"),
    ],
)
def test_wrong_invocations_are_told_what_is_wrong(
    with_client: WithClient, body: dict[str, Any], words: str
) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        answer = await client.post("/invocations", json=body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]

    with_client(work)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"amount,label\n", "no rows"),
        (b"amount,label\n1\n", "another length"),
        (b"amount\n\xff\n", "UTF-8"),
        (b'amount\n"1\n', "cannot be read"),
    ],
)
def test_wrong_csv_is_told_what_is_wrong(with_client: WithClient, body: bytes, words: str) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        headers = {"content-type": "text/csv"}
        answer = await client.post("/invocations", content=body, headers=headers)
        assert answer.status_code == 400
        assert words in answer.json()["error"]

    with_client(work)


def test_feedback_reaches_the_spool(with_client: WithClient, home: Home) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        one = await client.post("/feedback", json={"id": "r1", "label": "fraud"})
        assert one.json() == {"accepted": 1}
        several = [{"id": "r2", "label": 1.5, "at": 17.0}, {"id": "r3#0", "label": "legit"}]
        assert (await client.post("/feedback", json=several)).json() == {"accepted": 2}
        for wrong in ({}, {"id": "r1"}, {"id": 1, "label": "x"}, {"id": "a", "label": True}, "x"):
            assert (await client.post("/feedback", json=wrong)).status_code == 400
        many = [{"id": "r", "label": "x"}] * 10_001
        assert (await client.post("/feedback", json=many)).status_code == 413

    with_client(work)
    found, _ = read_spool(home.spool("payments", "feedback"), {}, Feedback, 100)
    assert [(item.id, item.label) for item in found] == [
        ("r1", "fraud"),
        ("r2", 1.5),
        ("r3#0", "legit"),
    ]
    assert found[1].at == 17.0
    assert found[0].at > 1_700_000_000, "what has no time became known when it came"


def test_the_sticky_header_is_the_sticky_parameter(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, open_client: OpenClient
) -> None:
    champion, challenger = load("1"), load("2")

    async def main() -> None:
        async with open_plane() as plane:
            plane.deploy(make_route(champion, challenger, share=0.5), champion, challenger)
            async with open_client(plane) as client:
                seen = set()
                for number in range(12):
                    key = f"caller-{number}"
                    by_header = await client.post(
                        "/invocations", json={"instances": [ROW]}, headers={"X-Sticky-Key": key}
                    )
                    by_parameter = await client.post(
                        "/v2/models/payments/infer",
                        json={**infer_body(), "parameters": {"sticky_key": key}},
                    )
                    by_mlflow_parameter = await client.post(
                        "/invocations",
                        json={"instances": [ROW], "params": {"sticky_key": key}},
                    )
                    version = by_header.headers["x-model-version"]
                    assert by_parameter.json()["model_version"] == version
                    role = {"1": "champion", "2": "challenger"}[version]
                    told = {"x-model-role": role, "x-routed-by": "sticky-key"}
                    for answer in (by_header, by_parameter, by_mlflow_parameter):
                        assert told.items() <= answer.headers.items()
                    parameters = {"model_role": role, "routed_by": "sticky-key"}
                    assert by_parameter.json()["parameters"] == parameters
                    seen.add(version)
                assert seen == {"1", "2"}

    asyncio.run(main())


def test_an_answer_says_why_its_version_answered(
    load: Load, make_route: MakeRoute, open_plane: OpenPlane, open_client: OpenClient
) -> None:
    champion, challenger, bad = load("1"), load("2"), load("3", variant="raises")
    poison = {**ROW, "country": "XX"}

    async def main() -> None:
        async with open_plane() as plane, open_client(plane) as client:

            async def why(path: str = "/invocations", row: Any = ROW) -> tuple[str, str, str]:
                content = infer_body() if path.endswith("infer") else {"instances": [row]}
                headers = (await client.post(path, json=content)).headers
                names = ("x-model-version", "x-model-role", "x-routed-by")
                version, role, routed_by = (headers.get(name, "") for name in names)
                return version, role, routed_by

            plane.deploy(make_route(champion), champion, None)
            assert await why() == ("1", "", ""), "there was nothing to choose"
            named = "/v2/models/payments/versions/{}/infer"
            assert await why(named.format("1")) == ("1", "champion", "version")
            plane.deploy(make_route(champion, challenger, share=1.0), champion, challenger)
            assert await why() == ("2", "challenger", "request-id")
            assert await why(named.format("champion")) == ("1", "champion", "version")
            plane.deploy(make_route(champion, bad, share=1.0), champion, bad, [challenger])
            assert await why(row=poison) == ("1", "champion", "fallback")
            assert await why(named.format("2")) == ("2", "pinned", "version")

    asyncio.run(main())


def test_a_request_id_is_the_logged_rows_id(with_client: WithClient, home: Home) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        headers = {"X-Request-Id": "order-17"}
        await client.post("/invocations", json={"instances": [ROW]}, headers=headers)
        headers = {"X-Request-Id": "order-18"}
        await client.post("/invocations", json={"instances": [ROW, ROW]}, headers=headers)

    with_client(work)
    found, _ = read_spool(home.spool("payments", "rows"), {}, LoggedRow, 100)
    assert [row.id for row in found] == ["order-17", "order-18#0", "order-18#1"]
    assert found[0].row == ROW


def test_a_body_beyond_the_limit_is_refused(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        read = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal read
            for _ in range(1000):
                read += 1
                yield b" " * 1000

        declared = await client.post("/invocations", content=b" " * 20_001)
        assert declared.status_code == 413
        assert "20000 bytes" in declared.json()["error"]
        assert (await client.post("/invocations", content=b" " * 20_000)).status_code == 400
        chunked = await client.post("/invocations", content=endless())
        assert chunked.status_code == 413

    with_client(work)


def test_before_the_model_is_there_readiness_says_so(
    open_plane: OpenPlane, open_client: OpenClient
) -> None:
    async def main() -> None:
        async with open_plane() as plane, open_client(plane) as client:
            assert (await client.get("/v2/health/live")).status_code == 200
            for path in ("/v2/health/ready", "/v2/models/payments/ready", "/ping", "/health"):
                assert (await client.get(path)).status_code == 503, path
            answer = await client.post("/v2/models/payments/infer", json=infer_body())
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert (await client.get("/v2/models/payments")).status_code == 503
            assert (await client.get("/")).json()["ready"] is False

    asyncio.run(main())


def test_ping_health_and_version(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        assert (await client.get("/ping")).status_code == 200
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/version")).text == "9.9"

    with_client(work)


def test_a_full_queue_is_429_with_retry_after(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        answers = await asyncio.gather(
            *(client.post("/v2/models/payments/infer", json=infer_body()) for _ in range(12))
        )
        by_status = {answer.status_code for answer in answers}
        assert by_status == {200, 429}
        for answer in answers:
            if answer.status_code == 429:
                assert answer.headers["retry-after"] == "1"
                assert "waiting" in answer.json()["error"]

    with_client(work, variant="slow", max_queue_rows=2, max_batch_rows=1)


def test_a_missed_deadline_is_504(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        answer = await client.post("/v2/models/payments/infer", json=infer_body())
        assert answer.status_code == 504
        assert "1 ms" in answer.json()["error"]

    with_client(work, variant="slow", deadline_ms=1.0)


@pytest.mark.parametrize(
    ("variant", "poison"), [("raises", {"country": "XX"}), ("nan", {"amount": -5.0})]
)
def test_a_model_that_fails_is_500_for_that_caller_alone(
    with_client: WithClient, variant: str, poison: dict[str, Any]
) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        path = "/v2/models/payments/infer"
        good, bad = await asyncio.gather(
            client.post(path, json=infer_body()), client.post(path, json=infer_body(**poison))
        )
        assert good.status_code == 200
        assert bad.status_code == 500
        assert "XX" not in bad.json()["error"]
        assert bad.headers["x-request-id"] != good.headers["x-request-id"]

    with_client(work, variant=variant)


def test_an_unforeseen_error_is_answered_and_its_text_kept_back(
    with_client: WithClient, caplog: pytest.LogCaptureFixture
) -> None:
    message = "secret of a row"

    async def work(client: httpx.AsyncClient, plane: DataPlane) -> None:
        async def broken(_: object) -> None:
            raise RuntimeError(message)

        plane.infer = broken  # type: ignore[method-assign, assignment]
        answer = await client.post("/v2/models/payments/infer", json=infer_body())
        assert answer.status_code == 500
        assert "secret" not in answer.text

    with_client(work)
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_metrics_count_what_was_answered(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        path = "/v2/models/payments/infer"
        for _turn in range(3):
            await client.post(path, json=infer_body(rows=2))
        await client.post(path, json=infer_body(amount="much"))
        await client.get("/nothing")
        text = (await client.get("/metrics")).text
        labels = 'model="payments",role="champion",version="1"'
        assert f"steadynet_requests_total{{{labels}}} 3.0" in text
        assert f"steadynet_rows_total{{{labels}}} 6.0" in text
        assert f"steadynet_invalid_requests_total{{{labels}}} 1.0" in text
        assert f'steadynet_request_seconds_bucket{{le="+Inf",{labels}}} 3.0' in text
        assert f"steadynet_request_seconds_count{{{labels}}} 3.0" in text
        responses = "steadynet_http_responses_total"
        assert f'{responses}{{model="payments",status="200"}} 3.0' in text
        assert f'{responses}{{model="payments",status="400"}} 1.0' in text
        assert f'{responses}{{model="",status="404"}} 1.0' in text

    with_client(work)


def every_error() -> list[type[errors.SteadynetError]]:
    """Return all of our error classes."""
    found: list[type[errors.SteadynetError]] = []
    waiting: list[type[errors.SteadynetError]] = [errors.SteadynetError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += kind.__subclasses__()
    return found


def test_more_rows_than_one_request_may_have_are_413(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> list[int]:
        answers = [
            await client.post("/invocations", json={"instances": [ROW] * rows}) for rows in (3, 4)
        ]
        assert "at most 3; got 4" in answers[1].json()["error"]
        return [answer.status_code for answer in answers]

    assert with_client(work, max_request_rows=3) == [200, 413]


def test_a_caller_may_set_itself_a_shorter_time(with_client: WithClient) -> None:
    async def work(client: httpx.AsyncClient, _: DataPlane) -> None:
        async def status(timeout_ms: str) -> int:
            headers = {"x-request-timeout-ms": timeout_ms}
            answer = await client.post("/invocations", json={"instances": [ROW]}, headers=headers)
            return answer.status_code

        assert await status("60000") == await status("1e7") == 200
        assert await status("0.0001") == 504
        for wrong in ("0", "-5", "soon", "nan", "inf", "1e999", ""):
            assert await status(wrong) == 400

    with_client(work)


@pytest.mark.parametrize("name", ["x-request-timeout-ms", "inference-header-content-length"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_refusal_carries_the_requests_id_wherever_it_stands(
    with_client: WithClient, name: str, is_first: bool
) -> None:
    async def work(client: httpx.AsyncClient, _plane: DataPlane) -> None:
        wrong, own = (name, "soon"), ("x-request-id", "order-17")
        headers = [own, wrong] if is_first else [wrong, own]
        answer = await client.post("/ping", headers=headers)
        assert answer.status_code == 400
        assert name in answer.json()["error"].lower()
        assert answer.headers["x-request-id"] == "order-17"
        unnamed = await client.post("/ping", headers=[wrong])
        assert len(unnamed.headers["x-request-id"]) > 1, "or a new one"

    with_client(work)


def test_every_error_has_a_status() -> None:
    expected = {
        "InputError": 400,
        "Unauthenticated": 401,
        "Forbidden": 403,
        "UnknownModel": 404,
        "CannotLoad": 400,
        "TooManyRows": 413,
        "OutOfDistribution": 422,
        "Overloaded": 429,
        "RateLimited": 429,
        "NotReady": 503,
        "DeadlineExceeded": 504,
        "CallerTimeout": 504,
    }
    for kind in every_error():
        error = kind.__new__(kind)
        assert status_of(error) == expected.get(kind.__name__, 500), kind
