"""`steadynet feedback`: hand in what really happened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from steadynet.home import Home

SHOWN_LINES = 10


def feedback(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    labels: Annotated[
        Path, typer.Argument(help="A CSV file with the columns id,label[,at][,value][,influenced].")
    ],
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad lines out instead of refusing all.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Hand in labels for rows that the server answered.

    `id` is the row's id: the request's id, or "<request id>#<i>" for row i of several. `label`
    is spelled as in the training table. `at` (ISO 8601 or seconds since 1970 UTC) says when it
    became known; `value` is what the answer was worth, in your own unit (see rollout.value);
    `influenced` is true where the answer itself brought the label about (see heal.influenced). One
    bad line refuses the whole file, unless --skip-bad.
    """
    from steadynet.bundle.manifest import MANIFEST, decode_manifest
    from steadynet.cli.labels_file import read_labels
    from steadynet.cli.terminal import print_json, stderr, stdout
    from steadynet.errors import TableError
    from steadynet.registry.local import LocalRegistry
    from steadynet.runtime.spool import SpoolWriter

    home = Home.default()
    version = LocalRegistry(home).resolve(model)
    target = decode_manifest((version.bundle / MANIFEST).read_bytes()).schema.target
    good, bad = read_labels(labels, target)
    if bad and not skip_bad:
        first = "; ".join(f"line {line}: {why}" for line, why in bad[:SHOWN_LINES])
        raise TableError(
            f"{len(bad)} lines of {labels.name} are no labels: {first}",
            do="Correct them, or add --skip-bad to hand in the others.",
        )
    writer = SpoolWriter(home.spool(version.name, "feedback"), f"cli-{os.getpid()}")
    writer.append(good)
    writer.close()
    if writer.dropped:
        raise TableError(f"{writer.dropped} labels could not be written", do="Make room.")
    if as_json:
        print_json({"model": version.name, "labels": len(good), "bad_lines": len(bad)})
        return
    for line, why in bad[:SHOWN_LINES]:
        stderr().print(f"line {line} left out: {why}", markup=False)
    stdout().print(f"{len(good)} labels handed in for {version.name}", markup=False)
