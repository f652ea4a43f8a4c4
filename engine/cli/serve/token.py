"""`bn serve token`: who may ask a server for what."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from engine.cli.options import json_option, note, out, print_json
from store.errors import OK, InputError


class Duration(click.ParamType[float]):
    """A duration, as 90d."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the seconds."""
        from engine.units import parse_duration

        try:
            return parse_duration(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a duration: write it as 90d or 12h", param, ctx)


config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Read this configuration and no other.",
)


def tokens_path(file: Path | None) -> Path:
    """Return where the server that is configured (in `file`) has its tokens."""
    from engine.config import load_config
    from engine.config_serve import serve_settings
    from engine.http.access import TOKENS
    from store.where import default_store

    said = _said_before()
    root = said["store"].absolute() if said.get("store") else default_store()
    paths = load_config(root, file=(file or said.get("file"))).files
    return serve_settings(paths, root).tokens or root / TOKENS


def _said_before() -> dict[str, Any]:
    """Return the options of `bn serve` itself, which may stand before `token`."""
    context: click.Context | None = click.get_current_context()
    while context is not None and context.info_name != "serve":
        context = context.parent
    return dict(context.params) if context else {}


@click.group()
def command() -> None:
    """Look after the tokens that clients of a server show: make, list, remove them.

    A running server takes changes up at once.
    """


@command.command()
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["read", "write", "admin"]),
    default="read",
    show_default=True,
    help="What it allows; each includes those before it.",
)
@click.option(
    "--name-space",
    "spaces",
    multiple=True,
    metavar="NAME",
    help="Where it counts, several times for several (default: everywhere).",
)
@click.option("--expires", type=Duration(), help="How long it counts, as 90d (default: for ever).")
@config_option
@json_option
def add(
    name: str,
    scope: str,
    spaces: tuple[str, ...],
    expires: float | None,
    file: Path | None,
    as_json: bool,
) -> int:
    """Make a token called NAME and print it: it is kept nowhere, only what it is checked with."""
    from engine.http.tokens import editing, make_token

    until = None if expires is None else round(time.time() + expires, 3)
    text, row = make_token(name, scope, spaces, until)
    path = tokens_path(file)
    with editing(path) as rows:
        if any(one.name == name and not one.is_expired(time.time()) for one in rows.values()):
            hint = f"bn serve token remove {name}, or choose another name"
            raise InputError(f"there is a token {name!r} already", hint)
        rows[row.id] = row
    if as_json:
        print_json({"token": text, **_document(row)})
    else:
        out(text)
        note(f"{name}: {_words(row)}. It is not shown again.")
    return OK


@command.command("list")
@config_option
@json_option
def list_tokens(file: Path | None, as_json: bool) -> int:
    """List the tokens, without what would let anybody in."""
    from engine.http.tokens import read_tokens

    path = tokens_path(file)
    try:
        rows = sorted(read_tokens(path).values(), key=lambda row: (row.name, row.created))
    except FileNotFoundError:
        rows = []
    if as_json:
        print_json([_document(row) for row in rows])
        return OK
    for row in rows:
        out(f"{row.name:<20} {row.id}  {_words(row)}")
    if not rows:
        note("there are no tokens: bn serve token add NAME makes one")
    return OK


@command.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@config_option
def remove(names: tuple[str, ...], file: Path | None) -> int:
    """Remove tokens, by name or id: who shows one of them is let in no more."""
    from engine.http.tokens import editing

    with editing(tokens_path(file)) as rows:
        for name in names:
            found = [row.id for row in rows.values() if name in (row.name, row.id)]
            if not found:
                raise InputError(f"there is no token {name!r}", "bn serve token list")
            for one in found:
                del rows[one]
    return OK


def _words(row: Any) -> str:
    """Return for people what a token allows, where, and until when."""
    spaces = f"in {', '.join(row.name_spaces)}" if row.name_spaces else "everywhere"
    if row.expires is None:
        return f"{row.scope} {spaces}"
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.expires))
    verb = "expired" if row.is_expired(time.time()) else "expires"
    return f"{row.scope} {spaces}, {verb} {day}"


def _document(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "scope": row.scope,
        "name_spaces": list(row.name_spaces),
        "created": row.created,
        "expires": row.expires,
    }
