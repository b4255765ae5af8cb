"""`steadynet verify`: is a bundle what was signed?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadynet.home import Home


def verify(
    bundle: Annotated[str, typer.Argument(help="A bundle's path, name@alias or name/3.")],
    key: Annotated[
        Path | None, typer.Option("--key", help="The signer's public key; default: this home's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Check every file, digest and the signature of a bundle, and its golden rows here.

    Exit code 3 where anything is missing, extra or changed, or another key signed it.
    """
    from steadynet.bundle.read import verify_bundle
    from steadynet.bundle.sign import fingerprint, signing_key
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.registry.local import LocalRegistry
    from steadynet.runtime.predictor import Predictor

    home = Home.default()
    path = Path(bundle)
    if not path.is_dir():
        path = LocalRegistry(home).resolve(bundle).bundle
    public = key or signing_key(home).public
    checked = verify_bundle(path, public)
    Predictor(checked).check_golden()
    if as_json:
        print_json(
            {
                "bundle": str(checked.path),
                "name": checked.manifest.name,
                "created": checked.manifest.created,
                "manifest_sha256": checked.manifest_sha256,
                "signed_by": fingerprint(public),
                "files": len(checked.manifest.files),
            }
        )
        return
    console = stdout()
    console.print(
        f"[green]whole[/]  {checked.path}: {len(checked.manifest.files)} files, the signature and "
        "the golden rows are right"
    )
    console.print(f"       manifest {checked.manifest_sha256}", markup=False)
    console.print(f"       signed by {fingerprint(public)}", markup=False)
