"""Silences that Alertmanager keeps.

Where alerts go to Alertmanager a silence is Alertmanager's own, seen and ended there as any other.
It keeps quiet the repeats of what is open and what Prometheus' rules find of the model, too, and
alerts go on being told to it: one that was no longer told would count as over.

Source: Alertmanager's API, version 2 (`POST /api/v2/silences`, `DELETE /api/v2/silence/{id}`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from steadynet.control.delivering import ALERTMANAGER_PATH
from steadynet.control.webhook import call, mask_url
from steadynet.errors import SteadynetError
from steadynet.monitoring.runbooks import RUNBOOKS
from steadynet.spec.operating import AlertsSpec


class _Made(msgspec.Struct):
    silenceID: str  # noqa: N815 - Alertmanager's name


def make_silence(
    alerts: AlertsSpec, model: str, key: str, *, start: float, end: float, by: str, reason: str
) -> str:
    """Silence a model's alerts, or those of one key, in Alertmanager; return the silence's id.

    Times are seconds UTC. Raises `SteadynetError` where Alertmanager does not take it.
    """
    matchers = [_equals("model", model)]
    if key:
        names = sorted({book.alertname for name, book in RUNBOOKS.items() if _below(name, key)})
        matchers.append({**_equals("alertname", "|".join(names)), "isRegex": True})
    body = {
        "matchers": matchers,
        "startsAt": _iso(start),
        "endsAt": _iso(end),
        "createdBy": by,
        "comment": reason,
    }
    answer = _ask(alerts, "POST", "/silences", msgspec.json.encode(body))
    return msgspec.json.decode(answer, type=_Made).silenceID


def end_silence(alerts: AlertsSpec, silence: str) -> None:
    """End a silence of Alertmanager's. Raises `SteadynetError` where it does not do so."""
    _ask(alerts, "DELETE", f"/silence/{silence}", b"")


def _ask(alerts: AlertsSpec, method: str, path: str, body: bytes) -> bytes:
    assert alerts.webhook is not None
    base = alerts.webhook.rstrip("/").removesuffix(ALERTMANAGER_PATH)
    answer = call(method, f"{base}/api/v2{path}", body, {})
    if isinstance(answer, str):
        raise SteadynetError(
            "Alertmanager could not be told of the silence; nothing has changed",
            expected=f"an answer of {mask_url(alerts.webhook)}",
            got=answer,
            do="See that it runs, or silence there: amtool silence add.",
        )
    return answer


def _equals(name: str, value: str) -> dict[str, str | bool]:
    return {"name": name, "value": value, "isRegex": False, "isEqual": True}


def _below(name: str, key: str) -> bool:
    return name == key or name.startswith(f"{key}/")


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
