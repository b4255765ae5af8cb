"""`steadynet verify`: is a bundle what was signed? Is the journal what was written?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steadynet.home import Home


def verify(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle's path, name@alias or name/3.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="The signer's public key; default: this home's.")
    ] = None,
    journal: Annotated[
        bool,
        typer.Option(
            "--journal", help="Check the journals of all models instead, or of the one named."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Check every file, digest and the signature of a bundle, and its golden rows here.

    Exit code 3 where anything is missing, extra or changed, or another key signed it. With
    --journal: check that no entry of a journal was changed, removed or put in, and that what was
    signed of it is still there; exit code 3 where not.
    """
    from steadynet.errors import UserError

    home = Home.default()
    if journal:
        _verify_journals(home, bundle, as_json=as_json)
        return
    if bundle is None:
        raise UserError("there is nothing to verify", expected="a bundle, or --journal")
    _verify_bundle(home, bundle, key, as_json=as_json)


def _verify_bundle(home: Home, bundle: str, key: Path | None, *, as_json: bool) -> None:
    from steadynet.bundle.read import verify_bundle
    from steadynet.bundle.sign import fingerprint, signing_key
    from steadynet.cli.terminal import print_json, stdout
    from steadynet.registry.local import LocalRegistry
    from steadynet.runtime.predictor import Predictor

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


def _verify_journals(home: Home, model: str | None, *, as_json: bool) -> None:
    from steadynet.cli.terminal import print_json, stderr, stdout
    from steadynet.control.anchor import check_journals
    from steadynet.errors import BundleTampered

    found = check_journals(home, () if model is None else (model,))
    broken = [item for item in found if item.problems]
    if as_json:
        print_json({"journals": found, "whole": not broken})
    else:
        for item in found:
            signed = f"signed up to entry {item.signed}"
            if not item.signed:
                signed = item.unsigned or "no signature of it holds"
            word = "[bold red]tampered[/]" if item.problems else "[green]whole[/]  "
            stdout().print(f"{word}  {item.model}: {item.entries} entries, {signed}")
            for problem in item.problems:
                stderr().print(f"  {problem}", markup=False)
        if not found:
            stdout().print("there is no journal yet", markup=False)
    if broken:
        raise typer.Exit(BundleTampered.exit_code)
