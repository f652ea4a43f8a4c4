"""All commands, each loaded when it is called, and how errors become exit codes."""

from __future__ import annotations

from typing import Final

import click

from engine import __version__
from engine.cli.ending import ended, interrupted, show_json
from engine.cli.lazy import LazyGroup
from store.errors import USAGE

COMMANDS: Final = {
    "build": "build the targets of a spec",
    "test": "run the tests of a spec",
    "graph": "show what a spec is made of",
    "why": "say why an artifact was built again",
    "explain": "say why an artifact ran where and when it did",
    "debug": "step through a build, placement by placement",
    "replay": "run recorded actions again and compare what comes out",
    "impact": "say what an edit would build again, and how long that takes",
    "autopsy": "say why a build failed, and what of it",
    "critical-path": "show what a build's duration was made of",
    "bundle": "write a build to one file that replays anywhere",
    "timeline": "show, check and compare what happened in builds",
    "log": "show what an artifact's action printed",
    "show": "print a stored object",
    "store": "look after what is kept",
    "serve": "share results over HTTP",
    "cache": "show what the caches are good for",
    "push": "give results to remote caches",
    "pull": "take results from remote caches",
    "mount": "show the store as a file system",
    "unmount": "end a mount of the store",
    "key": "make and show keys that sign what is built",
    "node": "show the machines that run actions",
    "cpu": "show the processors of this machine",
    "benchmark": "measure how fast this machine is",
    "watch": "know without looking whether files changed",
    "shell": "open a shell in an action's sandbox",
    "init": "write a first spec for the project in a directory",
    "simulate": "run a build in virtual time on any hardware",
    "doctor": "check this machine, and say how to mend it",
    "schema": "print the JSON Schema of specs",
    "completions": "print a shell's completion script",
}
"""Every command with its one-line help: the list needs none of them to be imported."""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    package="engine.cli",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 an action failed, 2 usage, 3 input, 4 host, 5 integrity, "
    "6 not reproducible, 70 internal, 130 interrupted.",
)
@click.version_option(__version__, prog_name="bn")
def commands() -> None:
    """bn builds what a TOML spec declares: hermetic, content-addressed, explained."""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; errors are shown, not raised."""
    as_json = "--json" in arguments

    def command() -> object:
        try:
            return commands.main(arguments, prog_name="bn", standalone_mode=False)
        except click.exceptions.Exit as stop:
            return stop.exit_code
        except click.ClickException as error:
            error.show()
            show_json(as_json, "UsageError", USAGE, error.format_message())
            return USAGE
        except click.Abort:
            return interrupted(as_json)

    return ended(as_json, command)
