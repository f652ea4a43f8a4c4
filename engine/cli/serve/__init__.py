"""`bn serve`: results shared over HTTP, in the protocols of many build tools."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from engine.cli.asking import note
from engine.cli.lazy import LazyGroup
from store.errors import OK

COMMANDS: Final = {"token": "make, list and remove the tokens that clients show"}
"""Every sub-command with its one-line help."""


@click.group(cls=LazyGroup, table=COMMANDS, package="engine.cli.serve", invoke_without_command=True)
@click.option(
    "--bind",
    multiple=True,
    metavar="HOST:PORT",
    help="Where to listen, or unix:PATH; several are allowed.  [default: 127.0.0.1:8980]",
)
@click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration, instead of bn.toml and the user's.",
)
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    help="The store to serve.  [default: $BN_STORE]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Processes.  [default: one a processor, at most 4]",
)
@click.pass_context
def command(
    ctx: click.Context,
    bind: tuple[str, ...],
    file: Path | None,
    store: Path | None,
    workers: int | None,
) -> int | None:
    """Serve the store over HTTP to bn, Bazel, ccache, sccache, Turborepo, Nx, Gradle, moon and
    Nix, until interrupted.

    SIGTERM ends it when the requests under way are answered; a second one at once.
    """
    if ctx.invoked_subcommand is not None:
        return None
    from attrs import evolve

    from engine.config import load_config
    from engine.config_serve import serve_settings
    from engine.http.running import serve
    from store.where import default_store

    root = store.absolute() if store else default_store()
    os.environ["BN_STORE"] = str(root)
    config = load_config(root, file=file and file.absolute())
    settings = serve_settings(config.files, root)
    if bind:
        settings = evolve(settings, bind=bind)
    if workers:
        settings = evolve(settings, workers=workers)
    serve(root, config, settings, note)
    return OK
