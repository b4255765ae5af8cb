"""What novelty costs and finds: `python bench/novelty.py --table CSV --target COLUMN`.

Trains a model by `steadynet train` with its defaults, then times its graph with and without the
nodes of `steadynet/novelty` and `steadynet/hidden`, in turns, on one row and on 256, in processor
time. Then the share of rows beyond the limit: as they are, with all numbers times 100, with unknown
categories, with every column shuffled by itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import polars as pl

from steadynet.bundle.manifest import MODEL
from steadynet.bundle.read import verify_bundle
from steadynet.bundle.sign import signing_key
from steadynet.home import Home
from steadynet.runtime.predictor import Predictor
from steadynet.spec.model import Spec, TableSpec
from steadynet.table.schema import NOVELTY, input_name
from steadynet.training.run import train

TURNS = 12


def without_novelty(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph without the two outputs and what only they need."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    kept = [output for output in bare.graph.output if not output.name.startswith("steadynet/")]
    del bare.graph.output[:]
    bare.graph.output.extend(kept)
    needed = {output.name for output in kept}
    nodes = []
    for node in reversed(bare.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    del bare.graph.node[:]
    bare.graph.node.extend(reversed(nodes))
    return bare


def session_of(model: onnx.ModelProto) -> ort.InferenceSession:
    """Load a graph as the server does."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def microseconds(session: ort.InferenceSession, feed: dict[str, np.ndarray], times: int) -> float:
    """Return what one run takes."""
    began = time.process_time()
    for _ in range(times):
        session.run(None, feed)
    return 1e6 * (time.process_time() - began) / times


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--target", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        spec = Spec(table=TableSpec(target=options.target))
        trained = train(str(options.table), spec, home=home, name="bench")
        bundle = verify_bundle(trained.bundle, signing_key(home).public)
        predictor = Predictor(bundle)
        model = onnx.load_model_from_string(bundle.read(MODEL))
    names = [column.name for column in predictor.schema.features]
    frame = pl.read_csv(options.table, infer_schema_length=None).head(5000)
    columns = predictor.decoder.rows(frame.select(names).to_dicts())
    print(f"{options.table.stem}: {len(names)} features, {len(model.graph.node)} nodes")
    pair = session_of(without_novelty(model)), session_of(model)
    print(f"  {'rows':>6}{'without':>14}{'with novelty':>16}{'more':>9}   median of {TURNS} turns")
    for rows, times in ((1, 2000), (256, 100)):
        feed = {input_name(name): columns[name][:rows] for name in names}
        turns = [[microseconds(session, feed, times) for session in pair] for _ in range(TURNS)]
        bare, full = np.median(turns, axis=0)
        ratio = float(np.median([turn[1] / turn[0] for turn in turns]))
        print(f"  {rows:>6}{bare:>11.1f} µs{full:>13.1f} µs{100 * (ratio - 1):>7.1f} %")
    print("  rows beyond the limit")
    for what, changed in _changes(predictor, columns).items():
        found = predictor.run_watched(changed)[NOVELTY]
        print(f"    {what:<44}{100 * float((found > 1).mean()):>7.2f} %")
    return 0


def _changes(
    predictor: Predictor, columns: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Return the rows as they are and made strange."""
    random = np.random.default_rng(0)
    features = predictor.schema.features
    numbers = [column.name for column in features if column.kind == "number"]
    texts = [column.name for column in features if column.kind == "category"][:4]
    return {
        "as they are": columns,
        "all numbers times 100": {
            name: values * np.float32(100) if name in numbers else values
            for name, values in columns.items()
        },
        f"{len(texts)} unknown categories": {
            name: np.full_like(values, "no such text") if name in texts else values
            for name, values in columns.items()
        },
        "each column shuffled by itself": {
            name: values[random.permutation(len(values))] for name, values in columns.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
