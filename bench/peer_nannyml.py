"""NannyML's defaults on windows: `python peer_nannyml.py FOLDER`, run in a venv of its own.

Reads `reference.csv` and `window-*.csv`; prints one JSON line per window: `any`, whether the
univariate calculator alerts on a column (Jensen-Shannon, thresholds of three deviations by chunks
of the reference), and `whole`, whether the reconstruction of the whole row alerts.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import nannyml as nml
import pandas as pd

nml.disable_usage_logging()
warnings.filterwarnings("ignore")
folder = Path(sys.argv[1])
reference = pd.read_csv(folder / "reference.csv")
windows = [pd.read_csv(path) for path in sorted(folder.glob("window-*.csv"))]
size = len(windows[0])
columns = list(reference.columns)
whole = pd.concat(windows, ignore_index=True)
single = nml.UnivariateDriftCalculator(column_names=columns, chunk_size=size).fit(reference)
told = single.calculate(whole).filter(period="analysis").to_df()
alerts = told[[key for key in told.columns if key[-1] == "alert"]].any(axis=1).tolist()
joint = nml.DataReconstructionDriftCalculator(column_names=columns, chunk_size=size)
rebuilt = joint.fit(reference).calculate(whole).filter(period="analysis").to_df()
whole_alerts = rebuilt[[key for key in rebuilt.columns if key[-1] == "alert"]].any(axis=1).tolist()
for one, other in zip(alerts[: len(windows)], whole_alerts, strict=False):
    print(json.dumps({"any": bool(one), "whole": bool(other)}), flush=True)
