"""The OpenAPI document says what the server does; schemathesis, asking by it, finds nothing."""

from __future__ import annotations

import copy
import re
from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

EXAMPLES = 8
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]


@pytest.fixture(scope="module")
def document(served: dict[str, Any]) -> dict[str, Any]:
    """The server's document."""
    found: dict[str, Any] = httpx.get(f"{served['url']}/openapi.json").json()
    return found


def test_every_path_is_described_and_no_other(
    document: dict[str, Any], served: dict[str, Any]
) -> None:
    index = httpx.get(f"{served['url']}/").json()
    paths = set(index["paths"])
    assert set(document["paths"]) == paths - {"/docs", "/openapi.json"}
    assert document["info"]["version"] == index["version"]


def test_every_example_is_answered(document: dict[str, Any], served: dict[str, Any]) -> None:
    asked = 0
    for path, item in document["paths"].items():
        if "requestBody" not in item.get("post", {}):
            continue
        example = item["post"]["requestBody"]["content"]["application/json"]["example"]
        target = path.replace("{version}", "champion")
        answer = httpx.post(f"{served['url']}{target}", json=example)
        assert answer.status_code == 200, (path, answer.text)
        asked += 1
    assert asked == 7


def test_tables_may_be_sent_in_all_their_forms(document: dict[str, Any]) -> None:
    operation = document["paths"]["/invocations"]["post"]
    arrow = "application/vnd.apache.arrow"
    assert set(operation["requestBody"]["content"]) == {
        "application/json",
        "text/csv",
        f"{arrow}.stream",
        f"{arrow}.file",
    }
    assert f"{arrow}.stream" in operation["responses"]["200"]["content"]


def test_the_page_needs_nothing_from_elsewhere(served: dict[str, Any]) -> None:
    answer = httpx.get(f"{served['url']}/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text)
    assert "innerHTML" not in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_schemathesis_finds_nothing(
    document: dict[str, Any], served: dict[str, Any], mode: GenerationMode
) -> None:
    statuses = asked(document, served["url"], mode)
    assert statuses[400] > 10, "requests with bodies were sent"


@pytest.mark.slow
def test_schemathesis_would_find_something(
    document: dict[str, Any], served: dict[str, Any]
) -> None:
    operation = copy.deepcopy(document["paths"]["/invocations"])
    del operation["post"]["responses"]["400"]
    with pytest.raises(FailureGroup, match="Undocumented status code"):
        asked(
            {**document, "paths": {"/invocations": operation}},
            served["url"],
            GenerationMode.NEGATIVE,
        )


def asked(document: dict[str, Any], url: str, mode: GenerationMode) -> Counter[int]:
    """Ask every operation of a document; return how often each status came back."""
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    statuses: Counter[int] = Counter()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            statuses[case.call_and_validate(checks=CHECKS).status_code] += 1

        ask()
    return statuses
