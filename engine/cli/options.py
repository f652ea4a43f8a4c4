"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from engine.cli.asking import SPEC_NAME as SPEC_NAME
from engine.cli.asking import configured as configured
from engine.cli.asking import note as note
from engine.cli.asking import open_store as open_store
from engine.cli.asking import out as out
from engine.cli.asking import print_json as print_json
from engine.cli.asking import split_spec as split_spec
from engine.policies import MODES, STRATEGIES
from engine.request import ISOLATION, Request

Command = TypeVar("Command", bound=Callable[..., Any])


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


def remote_options(command: Command) -> Command:
    """Add the options that say what remote caches are used for."""
    for option in (
        click.option(
            "--download",
            type=click.Choice(["all", "toplevel", "minimal"]),
            default="toplevel",
            show_default=True,
            help="What is fetched of results that remote caches have: all, the targets, or nothing"
            " but what has to be here.",
        ),
        click.option("--no-remote", is_flag=True, help="Do without remote caches."),
    ):
        command = option(command)
    return command


def placement_options(command: Command) -> Command:
    """Add the options that say how nodes are chosen, and whether that is told."""
    for option in (
        click.option(
            "--strategy",
            type=click.Choice(STRATEGIES),
            help="How the node of an action is chosen, instead of what bn.toml says.",
        ),
        click.option(
            "--mode",
            type=click.Choice(MODES),
            help="A policy by name: unified, cool nodes first, nodes with the inputs first, or the"
            " nodes divided among the targets.",
        ),
        click.option(
            "--explain", is_flag=True, help="Say why each action starts where and when it does."
        ),
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
