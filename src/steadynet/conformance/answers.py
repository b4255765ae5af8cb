"""What an answer over HTTP must be: outputs as the metadata says, or a refusal that says why."""

from __future__ import annotations

import math

from steadynet.conformance.checks import Failed, require, shorten
from steadynet.conformance.target import HttpTarget, Json, Response, count_of

TOLERANCE = 1e-4
"""How far apart two answers to the same row may be, relative to their size."""


def check_answer(target: HttpTarget, answer: Json) -> None:
    """Raise `Failed` where an answer's outputs are not what the standard and the metadata say."""
    require(isinstance(answer, dict), "an object", answer)
    name = answer.get("model_name")
    require(name == target.model, f"model_name: {target.model!r}", name)
    tensors = answer.get("outputs")
    require(isinstance(tensors, list) and bool(tensors), "outputs: a list of tensors", tensors)
    known = {tensor["name"]: tensor for tensor in target.metadata["outputs"]}
    for tensor in tensors:
        described = known.get(tensor.get("name"))
        require(described is not None, f"outputs among {sorted(known)}", tensor.get("name"))
        assert described is not None
        same = tensor.get("datatype") == described["datatype"]
        require(same, f"datatype {described['datatype']}, as the metadata says", tensor)
        shape = tensor.get("shape")
        fits = isinstance(shape, list) and len(shape) == len(described["shape"])
        fits = fits and all(
            said in (-1, size) for said, size in zip(described["shape"], shape, strict=True)
        )
        require(fits, f"shape {described['shape']}, as the metadata says", shape)
        data = flat(tensor.get("data"))
        require(len(data) == count_of(shape), f"{count_of(shape)} elements", len(data))
        require(_are_of(data, tensor["datatype"]), f"elements of {tensor['datatype']}", data)


def flat(data: Json) -> list[Json]:
    """Return nested lists as one. Raises `Failed` for what is no list."""
    if not isinstance(data, list):
        raise Failed("data: a list", shorten(data))
    found: list[Json] = []
    for item in data:
        found += flat(item) if isinstance(item, list) else [item]
    return found


def _are_of(data: list[Json], datatype: str) -> bool:
    types: tuple[type, ...] = (int,)
    if datatype == "BOOL":
        types = (bool,)
    elif datatype == "BYTES":
        types = (str,)
    elif datatype.startswith("FP"):
        types = (int, float)
    return all(isinstance(value, types) for value in data) and (
        datatype == "BOOL" or not any(isinstance(value, bool) for value in data)
    )


def require_same(answer: Json, expected: Json) -> None:
    """Raise `Failed` where an answer's outputs are not those of another."""
    found = {tensor["name"]: flat(tensor["data"]) for tensor in answer["outputs"]}
    wanted = {tensor["name"]: flat(tensor["data"]) for tensor in expected["outputs"]}
    require(found.keys() == wanted.keys(), f"outputs {sorted(wanted)}", sorted(found))
    for name, values in wanted.items():
        same = len(found[name]) == len(values) and all(
            math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            if isinstance(one, float)
            else one == other
            for one, other in zip(found[name], values, strict=True)
        )
        require(same, f"{name}: {shorten(values)}, as for the same row before", found[name])


def require_refusal(answer: Response) -> None:
    """Raise `Failed` where an answer is no client error with the standard's body."""
    require(400 <= answer.status < 500, "a status from 400 to 499", answer.status)
    found = answer.json()
    is_told = isinstance(found, dict) and isinstance(found.get("error"), str)
    require(is_told, '{"error": "..."}', found)
