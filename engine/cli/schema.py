"""`bn schema`: the JSON Schema of specs, for editors."""

from __future__ import annotations

import click

from engine.cli.options import json_option, print_json
from store.errors import OK


@click.command()
@click.option("--toolchain", is_flag=True, help="That of toolchain files.")
@json_option
def command(toolchain: bool, as_json: bool) -> int:
    """Print the JSON Schema of spec files."""
    from engine.spec.model import SpecFile, ToolchainFile
    from engine.spec.schema import schema

    print_json(schema(ToolchainFile if toolchain else SpecFile))
    return OK
