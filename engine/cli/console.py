"""The console: a fold of a build's events into what a person sees while it runs."""

from __future__ import annotations

import functools
import os
import sys
import time
from typing import TYPE_CHECKING, Protocol

from engine.timeline.events import (
    BuildFinished,
    BuildStarted,
    Event,
    RemoteFound,
    RemoteGivenUp,
    StepCached,
    StepFinished,
    StepRefused,
    StepsCached,
    StepSkipped,
    StepStarted,
    TierDropped,
    TokenWithheld,
)
from engine.units import show_duration
from store.cas import Cas
from store.digest import Digest
from store.errors import BnError

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

LOG_LINES = 20
"""Lines of a failed action's log that are shown."""


class Console(Protocol):
    """Something that shows events; a context manager around the build."""

    def __call__(self, event: Event) -> None:
        """Take in one event."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Counts:
    """How far a build is: the state that both consoles fold events into."""

    def __init__(self) -> None:
        self.total = 0
        self.done = 0
        self.failed = 0
        self.running: dict[str, float] = {}

    def add(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case BuildStarted(steps=steps):  # of a build that is tried again not the first
                self.total, self.done, self.failed = steps, 0, 0
                self.running.clear()
            case StepCached():
                self.done += 1
            case StepsCached(labels=labels):
                self.done += len(labels)
            case StepStarted(label=label):
                self.running[label] = time.monotonic()
            case StepFinished(label=label, outputs=outputs):
                self.running.pop(label, None)
                self.done += 1
                self.failed += outputs is None
            case StepSkipped():
                self.done += 1
            case StepRefused():
                self.done += 1
                self.failed += 1


class Lines:
    """The calm console: one line for every action that ran."""

    def __init__(self, cas: Cas, again: str, explain: bool = False) -> None:
        self.cas = cas
        self.again = again
        self.explain = explain
        self.counts = Counts()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        self.counts.add(event)
        if isinstance(event, StepFinished):
            self.write(finished_line(event, self.counts))
            if event.outputs is None:
                self.write(failure_text(event, self.cas, self.again))
        elif isinstance(event, StepStarted):
            if self.explain:
                self.write(started_line(event))
        elif isinstance(event, TierDropped):
            self.write(f"tier {event.tier} is {event.state}: {event.reason}; going on without it")
        elif isinstance(event, RemoteFound):
            number = len(event.labels)
            self.write(f"fetched {number} result{'s' * (number > 1)} from {event.remote}")
        elif isinstance(event, RemoteGivenUp):
            self.write(given_up_line(event))
        elif isinstance(event, TokenWithheld):
            self.write(f"remote cache {event.remote}: {event.reason}")

    def write(self, text: str) -> None:
        """Show text that stays."""
        sys.stderr.write(f"{text}\n")

    def close(self) -> None:
        """Nothing to put back."""


class Screen(Lines):
    """The console of a terminal: what is done, what runs and for how long, what is unknown yet."""

    def __init__(self, cas: Cas, again: str, explain: bool = False) -> None:
        super().__init__(cas, again, explain)
        from rich.console import Console as RichConsole
        from rich.live import Live

        self._rich = RichConsole(stderr=True, highlight=False)
        self._live: Live | None = None
        self._make = functools.partial(
            Live,
            get_renderable=self._status,
            console=self._rich,
            refresh_per_second=8,
            transient=True,
        )

    def __call__(self, event: Event) -> None:
        """Take in one event; the status appears with the first action that runs."""
        if isinstance(event, StepStarted) and self._live is None:
            self._live = self._make()
            self._live.start()
        super().__call__(event)
        if isinstance(event, BuildFinished):
            self.close()

    def write(self, text: str) -> None:
        """Show text above the status."""
        from rich.text import Text

        style = "red" if text.startswith("failed") else ""
        self._rich.print(Text(text, style=style))

    def close(self) -> None:
        """Take the status away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _status(self) -> Text:
        from rich.text import Text

        counts, now = self.counts, time.monotonic()
        running = sorted(counts.running.items(), key=lambda item: item[1])
        unknown = max(0, counts.total - counts.done - len(running))
        lines = [f"{counts.done} done · {len(running)} running · {unknown} to come"]
        lines += [f"  {label}  {show_duration(now - since)}" for label, since in running[:8]]
        return Text("\n".join(lines), style="bold")


def make_console(cas: Cas, again: str, *, explain: bool = False) -> Console:
    """Return the console that fits standard error; with `explain` it tells of placements."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "CI" not in os.environ:
        return Screen(cas, again, explain)
    return Lines(cas, again, explain)


def started_line(event: StepStarted) -> str:
    """Return the line of an action that starts: why it runs, where, and why there and now."""
    from engine.placed import in_words

    return f"start {event.label}: {'; '.join([event.reason, *in_words(event.placement)])}"


def finished_line(event: StepFinished, counts: Counts) -> str:
    """Return the line of an action that ended."""
    place = f"[{counts.done}/{counts.total}]"
    took = show_duration(event.seconds)
    if event.outputs is not None:
        return f"{place} {event.label}  {took}"
    return f"failed: {place} {event.label}  {took}: {event.reason}"


def given_up_line(event: RemoteGivenUp) -> str:
    """Return the line of a remote cache that is not used any more."""
    doing = "nothing more is uploaded to it" if event.doing == "writing" else "going on without it"
    return f"remote cache {event.remote}: {event.reason}; {doing}"


def failure_text(event: StepFinished, cas: Cas, again: str) -> str:
    """Return the end of a failed action's log, where the whole is, and how to reproduce it.

    `again` names the spec and its parameters on a command line.
    """
    again = f"{again} " if again else ""
    lines = []
    try:
        log = cas.get_bytes(Digest(event.log)).decode(errors="replace").rstrip()
    except BnError:
        log = ""
    shown = log.splitlines()[-LOG_LINES:] if log else []
    lines += [f"  | {line}" for line in shown]
    if len(log.splitlines()) > LOG_LINES:
        lines.append(f"  (the last {LOG_LINES} lines)")
    lines.append(f"  whole log: {cas.path(Digest(event.log))}")
    import shlex

    lines.append(f"  reproduce: bn shell {again}{shlex.quote(event.label)} --run")
    if event.kept:
        lines.append(f"  sandbox kept: {event.kept}")
    return "\n".join(lines)
