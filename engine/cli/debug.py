"""`bn debug`: a build, placement by placement."""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import click

from engine.cli.building import build_asked
from engine.cli.options import placement_options, request, spec_options
from engine.cli.shell import enter
from engine.debugging.debugger import Debugger
from engine.debugging.stops import BadCondition, parse_stop
from executors.sandbox import PlainSandbox
from store.errors import InputError, host_error
from store.objects import Action
from store.store import Store

PROMPT = "(bn) "


class _Terminal:
    """A terminal, or a script, whose lines are shown as they are read."""

    def __init__(self, script: IO[str]) -> None:
        self._script = script
        self._typed = script is sys.stdin and script.isatty()
        if self._typed:
            import readline

            readline.parse_and_bind("tab: complete")

    def ask(self) -> str | None:
        """Return the next command; an empty line of a script, or what begins with #, is none."""
        if self._typed:
            try:
                return input(PROMPT)
            except EOFError:
                return "quit"
        for line in self._script:
            text = line.strip()
            if text and not text.startswith("#"):
                self.tell(f"{PROMPT}{text}")
                return text
        return None

    def tell(self, text: str) -> None:
        """Show a line."""
        sys.stderr.flush()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


@click.command()
@spec_options
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processors to use (default: all).")
@click.option("--break", "stops", multiple=True, metavar="WHERE", help="A first breakpoint.")
@click.option("--script", type=click.Path(path_type=Path), help="Read commands from this file.")
@click.option("--no-link", is_flag=True, help="Make no ./result link.")
@placement_options
def command(
    names: tuple[str, ...],
    sets: tuple[str, ...],
    profile: str | None,
    executor: str,
    as_json: bool,
    jobs: int | None,
    stops: tuple[str, ...],
    script: Path | None,
    no_link: bool,
    explain: bool,
    strategy: str | None,
    mode: str | None,
) -> int:
    """Step through a build: each placement is shown before it happens, and waits for a command.

    Commands come from the terminal, from --script, or from standard input; `help` lists them. Where
    a script ends, the build goes on to its end.
    """
    try:
        wanted = [parse_stop(text) for text in stops]
    except BadCondition as error:
        raise InputError(f"--break: {error}") from error
    with _opened(script) as lines:
        debugger = Debugger(_Terminal(lines), _enter, wanted)
        asked = request(
            names,
            sets,
            profile,
            executor,
            jobs=jobs,
            keep_going=True,
            strategy=strategy,
            mode=mode,
            around=debugger.around,
        )
        return build_asked(asked, as_json, no_link=no_link, explain=explain, watchers=(debugger,))


def _opened(script: Path | None) -> AbstractContextManager[IO[str]]:
    try:
        return contextlib.nullcontext(sys.stdin) if script is None else open(script)
    except OSError as error:
        raise host_error(error, "cannot read the script") from error


def _enter(store: Store, action: Action, command: str | None) -> int:
    return enter(PlainSandbox(store), action, command)
