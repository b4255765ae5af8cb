"""`steadynet predict`: a table with a version's answers beside its columns."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadynet.home import Home

if TYPE_CHECKING:
    import polars as pl

    from steadynet.bundle.read import Bundle
    from steadynet.cli.scoring import Answers


def predict(
    model: Annotated[str, typer.Argument(help="name, name@alias, name/3 or a bundle's path.")],
    table: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .csv or .parquet file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Write every row of a table with the version's answer beside it.

    Classification adds `prediction` and one `probability_<class>` per class, regression adds
    `prediction`, `lower` and `upper`; those of a further target begin with `<target>/`. Where the
    targets are labels of one column, `predicted_labels` joins those that a row has. A column of
    such a name in the table makes it `steadynet_prediction` and so on. The file appears whole or
    not at all.
    """
    from steadynet.cli.models import open_model
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.errors import TableError, UserError
    from steadynet.spec.model import TableSpec
    from steadynet.table.read import read_table

    if output.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(
            f"{output.name} cannot be written",
            expected="a file that ends in .csv or .parquet",
            got=f"the ending {output.suffix!r}",
        )
    version, bundle = open_model(Home.default(), model)
    missing = bundle.manifest.schema.missing_spellings
    frame = read_table(table, TableSpec(missing=missing))
    if frame.height == 0:
        raise TableError(f"{table.name} has no rows")
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}")
    try:
        names = _write(bundle, frame, temporary, as_csv=output.suffix.lower() == ".csv")
        os.replace(temporary, output)
    except OSError as error:
        raise UserError(f"{output} cannot be written", got=error.strerror) from error
    finally:
        temporary.unlink(missing_ok=True)
    if as_json:
        print_json(
            {
                "model": version.name,
                "version": version.version,
                "rows": frame.height,
                "output": str(output),
                "columns": names,
            }
        )
        return
    stdout().print(
        f"{frame.height} rows answered by {version.name} version {version.version}: {output}",
        markup=False,
    )


def _write(bundle: Bundle, frame: pl.DataFrame, path: Path, *, as_csv: bool) -> list[str]:
    """Write the answered rows chunk by chunk; return the names of the columns added."""
    import pyarrow.parquet

    from steadynet.cli.scoring import score_chunks

    added: list[str] = []
    writer: pyarrow.parquet.ParquetWriter | None = None
    with path.open("wb") as file:
        for part, answers in score_chunks(bundle, frame):
            columns = _columns(bundle, answers, set(frame.columns))
            done = part.with_columns(columns)
            if as_csv:
                done.write_csv(file, include_header=not added)
            else:
                arrow = done.to_arrow()
                writer = writer or pyarrow.parquet.ParquetWriter(file, arrow.schema)
                writer.write_table(arrow)
            added = [column.name for column in columns]
        if writer is not None:
            writer.close()
    return added


def _columns(bundle: Bundle, answers: Answers, taken: set[str]) -> list[pl.Series]:
    import polars as pl

    from steadynet.table.schema import PREDICTION_SET, answers_about, output_name

    schema = bundle.manifest.schema
    named: list[tuple[str, pl.Series]] = []
    for target in schema.targets:
        own = answers_about(answers, schema, target)
        if target.classes:
            found = [("prediction", pl.Series(own["label"].astype(str)))]
            found += [
                (f"probability_{name}", pl.Series(own["probabilities"][:, place]))
                for place, name in enumerate(target.classes)
            ]
        else:
            found = [(name, pl.Series(values)) for name, values in own.items()]
        named += [(output_name(schema, target, name), values) for name, values in found]
    labels = schema.target.labels
    if labels is not None:
        has = [
            answers_about(answers, schema, target)["label"] == "yes" for target in schema.targets
        ]
        names = [target.name for target in schema.targets]
        joined = [
            labels.separator.join(name for name, yes in zip(names, row, strict=True) if yes)
            for row in zip(*has, strict=True)
        ]
        named.append(("predicted_labels", pl.Series(joined, dtype=pl.String)))
    if PREDICTION_SET in answers:
        named += [
            (f"in_set_{name}", pl.Series(answers[PREDICTION_SET][:, place]))
            for place, name in enumerate(schema.target.classes)
        ]
    clash = any(name in taken for name, _ in named)
    return [series.rename(f"steadynet_{name}" if clash else name) for name, series in named]
