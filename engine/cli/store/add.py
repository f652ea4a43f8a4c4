"""`bn store add`: a directory on another disk becomes a tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.options import json_option, out, print_json
from engine.cli.store.tables import add_tables
from engine.config import CLEANUP, NAME, RAM_SHARE, TYPES, load_config, project_file, user_file
from engine.units import parse_size
from store.errors import OK, InputError
from store.measure import Latencies
from store.tiers import LEVEL_NAMES, RAM, Tier
from store.where import default_store

KINDS = {level: name for name, level in TYPES.items()}


@click.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--type", "kind", type=click.Choice(list(TYPES)), help="Default: found by itself.")
@click.option("--max-size", metavar="SIZE", help="Most that it may hold, as 40GB or 25%.")
@click.option("--cleanup-policy", type=click.Choice(CLEANUP), help="What goes when it is full.")
@click.option("--retention-days", type=click.IntRange(0), help="Days that blobs stay in it.")
@click.option("--no-auto-create", is_flag=True, help="It is made by somebody else, or mounted.")
@click.option("--project", is_flag=True, help="Write into bn.toml, not the user's configuration.")
@json_option
def command(
    name: str,
    path: Path,
    kind: str | None,
    max_size: str | None,
    cleanup_policy: str | None,
    retention_days: int | None,
    no_auto_create: bool,
    project: bool,
    as_json: bool,
) -> int:
    """Add the tier NAME in the directory PATH: where blobs live, fast ones first.

    With the first one, the tiers that bn chose by itself are written down, too.
    """
    if max_size is not None and not _is_size(max_size):
        raise click.UsageError(f"--max-size {max_size}: write it as 40GB or 25%")
    given = {
        "path": str(path.expanduser().absolute()),
        "type": kind,
        "max_size": max_size,
        "auto_create": False if no_auto_create else None,
        "cleanup_policy": cleanup_policy,
        "retention_days": retention_days,
    }
    root = default_store()
    before = load_config(root, latency=Latencies(root))
    if any(spec.name == name for spec in before.tiers):
        raise InputError(f"there is a tier {name!r} already", "choose another name")
    if any(spec.path == Path(str(given["path"])) for spec in before.tiers):
        raise InputError(f"{given['path']}: is a tier already", "bn store stat shows them")
    tables: dict[str, dict[str, Any]] = {}
    if not before.configured:
        for spec in before.tiers:
            tables[spec.name] = {"path": str(spec.path), "type": KINDS[spec.level]}
            if spec.level == RAM:
                tables[spec.name]["max_size"] = f"{RAM_SHARE:.0%}"
    tables[name] = {key: value for key, value in given.items() if value is not None}
    file = (project_file(Path.cwd()) or Path.cwd() / NAME) if project else user_file()
    add_tables(file, tables)
    after = load_config(root, latency=Latencies(root))
    made = next(spec for spec in after.tiers if spec.name == name)
    if made.auto_create:
        try:
            Tier(made).create(force=True)
        except OSError as error:
            raise InputError(
                f"{made.path}: {error.strerror}", f"it is in {file} already"
            ) from error
    if as_json:
        print_json({"name": name, "level": made.level, "path": str(made.path), "file": str(file)})
    else:
        out(f"tier {name} ({LEVEL_NAMES[made.level]}) in {made.path}, written to {file}")
    return OK


def _is_size(text: str) -> bool:
    if text.endswith("%"):
        return text[:-1].strip().isdigit()
    try:
        return parse_size(text) > 0
    except ValueError:
        return False
