"""`bn key`: keys that sign what is built, and are trusted by others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from engine.cli.options import json_option, note, out, print_json
from store.errors import OK, InputError

DIRECTORY: Final = "keys"
"""Beside the user's configuration."""


@click.group()
def command() -> None:
    """Make and show keys that sign what is built.

    `[cache] signing_key` names the file of the one that signs; with `trusted_keys` only results
    that one of these signed are taken from remote caches.
    """


@command.command()
@click.argument("name")
@click.option(
    "--out",
    "target",
    type=click.Path(path_type=Path),
    help="Write the key to this file (default: NAME beside your configuration).",
)
@json_option
def generate(name: str, target: Path | None, as_json: bool) -> int:
    """Make a key called NAME, and print its public half, for those who trust it."""
    from store.signatures import SigningKey

    key = SigningKey.generate(name)
    path = target or keys_directory() / name
    key.write(path)
    if as_json:
        print_json({"name": name, "path": str(path.absolute()), "public": str(key.public())})
    else:
        out(str(key.public()))
        note(f'signs with [cache] signing_key = "{path.absolute()}"')
    return OK


@command.command()
@click.argument("name", required=False, metavar="[NAME|FILE]")
@json_option
def show(name: str | None, as_json: bool) -> int:
    """Print the public half of a key: of a name, of a file, of the one that signs here."""
    from store.signatures import SigningKey

    path = _signing_key() if name is None else _found(name)
    public = SigningKey.read(path).public()
    if as_json:
        print_json({"name": public.name, "path": str(path.absolute()), "public": str(public)})
    else:
        out(str(public))
    return OK


def keys_directory() -> Path:
    """Return the directory in which keys are kept where nothing else is said."""
    from engine.config import user_file

    return user_file().parent / DIRECTORY


def _found(name: str) -> Path:
    known = keys_directory() / name
    return known if re.fullmatch(r"[^/]+", name) and known.is_file() else Path(name)


def _signing_key() -> Path:
    from engine.config import load_config
    from store.where import default_store

    cache = load_config(default_store()).cache
    path = cache.more.get("signing_key") if cache else None
    if path is None:
        made = sorted(one.name for one in keys_directory().glob("*") if one.is_file())
        hint = f"name one of {', '.join(made)}" if made else "bn key generate NAME makes one"
        raise InputError("no [cache] signing_key is configured", hint)
    return Path(path)
