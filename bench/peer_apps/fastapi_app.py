"""FastAPI and onnxruntime as an engineer writes it on the first day: a pydantic body, a function.

`python fastapi_app.py PORT [async]`. The handler is a plain function, as FastAPI's own pages advise
for code that computes; with `async` it runs on the event loop.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from network import Network
from pydantic import BaseModel, create_model

network = Network()
app = FastAPI()


class Features(BaseModel):
    features: list[float]


Record: Any = create_model(
    "Record",
    **{name: (str if kind is object else float, ...) for name, kind in network.kinds.items()},
)


def answer_row(request: Features) -> dict[str, Any]:
    return network.rows([request.features])


def answer_record(request: Record) -> dict[str, Any]:
    return network.record(request.model_dump())


async def answer_row_async(request: Features) -> dict[str, Any]:
    return network.rows([request.features])


async def answer_record_async(request: Record) -> dict[str, Any]:
    return network.record(request.model_dump())


for handler in (answer_record, answer_record_async):
    handler.__annotations__["request"] = Record
if "async" in sys.argv:
    app.post("/predict")(answer_row_async if network.is_matrix else answer_record_async)
else:
    app.post("/predict")(answer_row if network.is_matrix else answer_record)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
