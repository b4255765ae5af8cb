"""The first route: verified before it is written, and never in an open rollout's way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from steadynet.bundle.manifest import MODEL
from steadynet.bundle.read import Bundle
from steadynet.bundle.sign import ensure_key
from steadynet.errors import BundleTampered, ServingError, UserError
from steadynet.files import write_atomic
from steadynet.home import Home
from steadynet.rollout.route import Endpoint, Route
from steadynet.serving.first_route import first_route, open_route, read_route

ONE = Endpoint(version="1", bundle="/1", manifest_sha256="1" * 64)
TWO = Endpoint(version="2", bundle="/2", manifest_sha256="2" * 64)
OPEN = Route(model="m", generation=7, champion=ONE, challenger=TWO, share=0.25, salt="r")


@pytest.mark.parametrize(
    ("existing", "wanted", "expected"),
    [
        (None, ONE, Route(model="m", generation=1, champion=ONE)),
        (Route(model="m", generation=4, champion=ONE), ONE, None),
        (
            Route(model="m", generation=4, champion=ONE, salt="old"),
            TWO,
            Route(model="m", generation=5, champion=TWO),
        ),
        (OPEN, ONE, None),
        (OPEN, TWO, None),
    ],
)
def test_the_decision(existing: Route | None, wanted: Endpoint, expected: Route | None) -> None:
    assert first_route("m", existing, wanted) == expected


def endpoint_of(bundle: Bundle, version: str = "1") -> Endpoint:
    """Return the endpoint of a bundle."""
    return Endpoint(
        version=version, bundle=str(bundle.path), manifest_sha256=bundle.manifest_sha256
    )


def test_the_route_is_written_once_the_bundle_is_verified(
    make_bundle: Callable[..., Bundle], home: Home
) -> None:
    wanted = endpoint_of(make_bundle())
    route = open_route(home, "payments", wanted)
    assert route == read_route(home, "payments")
    assert (route.generation, route.champion, route.challenger) == (1, wanted, None)
    assert open_route(home, "payments", wanted) == route, "nothing changes a second time"
    other = endpoint_of(make_bundle(seed=1), "2")
    assert open_route(home, "payments", other).generation == 2


@pytest.mark.parametrize("wrong", ["changed", "exchanged", "other key"])
def test_nothing_is_written_for_what_is_not_verified(
    make_bundle: Callable[..., Bundle], home: Home, tmp_path: Path, wrong: str
) -> None:
    bundle = make_bundle()
    wanted = endpoint_of(bundle)
    if wrong == "changed":
        (bundle.path / MODEL).write_bytes(b"else")
    elif wrong == "exchanged":
        wanted = msgspec.structs.replace(wanted, manifest_sha256="0" * 64)
    else:
        home = Home(tmp_path / "other")
        ensure_key(home)
    with pytest.raises(BundleTampered):
        open_route(home, "payments", wanted)
    assert read_route(home, "payments") is None


def test_without_a_key_nothing_is_served(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="public key"):
        open_route(Home(tmp_path / "empty"), "payments", endpoint_of(make_bundle()))


def test_an_open_rollout_is_kept(
    make_bundle: Callable[..., Bundle], home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    champion, challenger = endpoint_of(make_bundle()), endpoint_of(make_bundle(seed=1), "2")
    route = Route(
        model="payments", generation=3, champion=champion, challenger=challenger, share=0.5
    )
    write_atomic(home.route("payments"), msgspec.json.encode(route))
    assert open_route(home, "payments", challenger) == route
    assert "a rollout is open" in caplog.text


def test_a_route_that_cannot_be_read_is_said(home: Home) -> None:
    write_atomic(home.route("payments"), b"{}")
    with pytest.raises(ServingError, match=r"route\.json cannot be read"):
        read_route(home, "payments")
