"""`bn schema`: the JSON Schema of specs and of the configuration, for editors."""

from __future__ import annotations

import click

from engine.cli.options import json_option, print_json
from store.errors import OK


@click.command()
@click.option("--toolchain", is_flag=True, help="That of toolchain files.")
@click.option("--config", is_flag=True, help="That of the configuration: bn.toml.")
@json_option
def command(toolchain: bool, config: bool, as_json: bool) -> int:
    """Print the JSON Schema of spec files."""
    if toolchain and config:
        raise click.UsageError("--toolchain and --config exclude each other")
    from engine.spec.model import SpecFile, ToolchainFile
    from engine.spec.schema import schema

    if config:
        from engine.config_form import ConfigFile

        print_json(schema(ConfigFile, "bn configuration"))
        return OK
    print_json(schema(ToolchainFile if toolchain else SpecFile))
    return OK
