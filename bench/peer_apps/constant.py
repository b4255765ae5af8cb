"""uvicorn as steadynet's workers use it, under an empty ASGI handler: the constant answer."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

BODY = (
    b'{"model_name":"bench","model_version":"1","id":"0123456789ab-1234","outputs":[{"name":'
    b'"label","datatype":"BYTES","shape":[1],"data":["yes"]},{"name":"probabilities",'
    b'"datatype":"FP32","shape":[1,2],"data":[0.34567890123456789,0.65432109876543210]}]}'
)
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(BODY)),
    (b"x-request-id", b"0123456789ab-1234"),
    (b"x-model-name", b"bench"),
    (b"x-model-version", b"1"),
]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body and answer the same every time."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
    )
