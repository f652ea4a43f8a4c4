"""Options and arguments that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.config import Config, load_config
from engine.healing import open_healed
from engine.session import ISOLATION, Request
from store.measure import Latencies
from store.store import Store
from store.where import default_store

Command = TypeVar("Command", bound=Callable[..., Any])

SPEC_NAME = "spec.toml"


def spec_options(command: Command) -> Command:
    """Add the arguments and options that say which spec, with which parameters."""
    for option in (
        click.argument("names", nargs=-1, metavar="[SPEC] [TARGET]..."),
        click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="Set a parameter."),
        click.option("--profile", metavar="NAME", help="Use a profile's parameters."),
        click.option(
            "--executor",
            type=click.Choice(list(ISOLATION)),
            default="sandbox",
            show_default=True,
            help="How actions run; native has no isolation, and keeps its results apart.",
        ),
        json_option,
    ):
        command = option(command)
    return command


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Machine-readable on stdout.")(
        command
    )


def request(
    names: Sequence[str],
    sets: Sequence[str],
    profile: str | None,
    executor: str,
    **more: Any,
) -> Request:
    """Return the request that the arguments make: the first of `names` is the spec where it is a
    `.toml` file or a directory, the others are targets."""
    spec, targets = split_spec(names)
    values: dict[str, str] = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--set {text}: write it as NAME=VALUE")
        values[name] = value
    return Request(
        spec=spec, targets=targets, sets=values, profile=profile, executor=executor, **more
    )


def split_spec(names: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    """Return the spec's path and the rest of `names`."""
    if names:
        first = Path(names[0])
        if first.suffix == ".toml" and ":" not in names[0]:
            return first, tuple(names[1:])
        directory = "/" in names[0] or names[0] in (".", "..") or (first / SPEC_NAME).is_file()
        if directory and "[" not in names[0]:
            return first / SPEC_NAME, tuple(names[1:])
    return Path(SPEC_NAME), tuple(names)


def open_store(*, heal: bool = True) -> Store:
    """Open the user's store, with the tiers and the policy that are configured.

    An index that is damaged or lost is made again, and that is said, unless not to `heal` it.
    """
    root, config = configured()
    if heal:
        return open_healed(root, config, lambda text: note(f"store: {text}"))
    return Store(root, config.tiers, config.policy)


def configured() -> tuple[Path, Config]:
    """Return where the user's store is, and the configuration for it."""
    root = default_store()
    return root, load_config(root, latency=Latencies(root))


def print_json(value: Any) -> None:
    """Write a value to standard output, for machines."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def out(text: str = "") -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
