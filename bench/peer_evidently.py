"""Evidently's defaults on windows: `python peer_evidently.py FOLDER`, run in a venv of its own.

Reads `reference.csv` and `window-*.csv`; prints one JSON line per window: `any`, whether a column
drifted, and `whole`, whether as many did as make a data set drifted by default (half of them).
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset

warnings.filterwarnings("ignore")
folder = Path(sys.argv[1])
reference = pd.read_csv(folder / "reference.csv")
for path in sorted(folder.glob("window-*.csv")):
    current = pd.read_csv(path)
    found = Report([DataDriftPreset()]).run(current, reference).dict()
    [counted] = [
        metric["value"] for metric in found["metrics"] if "DriftedColumns" in metric["metric_name"]
    ]
    print(json.dumps({"any": counted["count"] > 0, "whole": counted["share"] >= 0.5}), flush=True)
