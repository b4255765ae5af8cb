"""A bundle as an MLflow model: the folder with `MLmodel` that MLflow stores and serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steadynet.bundle.manifest import Manifest
from steadynet.bundle.read import Bundle
from steadynet.errors import RegistryError
from steadynet.table.schema import OUTPUTS, output_name

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

LOADER_MODULE = "steadynet.registry.pyfunc"
DIGEST_TAG = "steadynet.manifest_sha256"


def save_mlflow_model(folder: Path, bundle: Bundle, *, run_id: str, model_id: str) -> None:
    """Write the MLflow model of a bundle into `folder`, which must not exist yet.

    `mlflow.pyfunc.load_model` loads it through `steadynet.registry.pyfunc`, without pickle.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=LOADER_MODULE,
        data_path=str(bundle.path),
        mlflow_model=Model(run_id=run_id, model_id=model_id, model_uuid=model_id),
        # Named, since MLflow would otherwise load the model to guess them.
        pip_requirements=_requirements(bundle.manifest),
        signature=_signature(bundle.manifest),
        metadata={DIGEST_TAG: bundle.manifest_sha256},
    )


def find_bundle(folder: Path) -> Path:
    """Return the bundle inside a downloaded MLflow model.

    Raises `RegistryError` where the model is not one of ours.
    """
    from mlflow.models import Model

    flavor = Model.load(str(folder)).flavors.get("python_function", {})
    data = flavor.get("data")
    inside = (folder / str(data)).resolve()
    if flavor.get("loader_module") != LOADER_MODULE or not inside.is_relative_to(folder.resolve()):
        raise RegistryError(
            "the MLflow model holds no steadynet bundle", expected=f"loader {LOADER_MODULE}"
        )
    return inside


def _requirements(manifest: Manifest) -> list[str]:
    libraries = manifest.provenance.libraries
    pinned = [
        f"{name}=={libraries[name]}" for name in ("numpy", "onnxruntime") if name in libraries
    ]
    return [f"steadynet=={manifest.provenance.steadynet}", *pinned]


def _signature(manifest: Manifest) -> ModelSignature:
    """Return the model's signature for MLflow.

    Inputs are of any type: the schema's own rules (numbers as text, "yes" for true, missing
    spellings, ISO dates) apply to what comes, as everywhere else; MLflow's casts would refuse it.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

    inputs = Schema([ColSpec(AnyType(), column.name) for column in manifest.schema.features])
    schema = manifest.schema
    outputs = []
    for target in schema.targets:
        if target.classes:
            name = output_name(schema, target, "label")
            outputs.append(ColSpec(DataType.string, name))
        numbers = [f"probability_{name}" for name in target.classes]
        outputs += [
            ColSpec(DataType.double, output_name(schema, target, name))
            for name in numbers or OUTPUTS[target.task]
        ]
        if target is schema.target and target.classes and manifest.covered is not None:
            outputs += [ColSpec(DataType.boolean, f"in_set_{name}") for name in target.classes]
    return ModelSignature(inputs=inputs, outputs=Schema(outputs))
