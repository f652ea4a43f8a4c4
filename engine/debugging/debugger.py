"""The debugger's commands: what a user, or a script, says before each placement."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from engine.debugging.held import Choice, Held
from engine.debugging.stops import BadCondition, Stop, parse_stop
from engine.job import Job
from engine.placed import in_words
from engine.resolve import with_inputs
from engine.seats import Seats, Turn
from engine.timeline.events import Event, StepFinished
from engine.units import show_duration, show_size
from store.digest import Digest
from store.errors import BnError
from store.objects import Action, Directory, Entry, File, Link
from store.store import Store
from store.trees import walk

HELP: Final = """\
step [STEP]        start the next placement, or STEP's; then stop again (s)
continue           go on to the next breakpoint (c)
list               what would start now, in order, and what waits for room (l)
running            what runs
break ARTIFACT     stop before its steps; a pattern with * may be given (b)
break failure      stop when a step has failed
break if COND      stop where FIELD OP VALUE [and …] holds: step, node, reason (==, !=, ~);
                   cpus, memory, rank, waited (==, !=, <, <=, >, >=)
delete [N]         remove breakpoint N, or all
breaks             the breakpoints
why [STEP]         why it would start there and now: scores, weights, runners-up (w)
command [STEP]     the command line, digest and outputs of its action
env [STEP]         its variables
inputs [STEP]      its input files, with sizes
toolchains [STEP]  its toolchains
shell [COMMAND]    a shell, or a command, in the next action's sandbox
skip [STEP]        do not run it, nor what needs it
node NAME [STEP]   start it on another node
wait               start nothing until something has ended
quit               end the build; what was built is kept (q)
help               this (h)
STEP is by default the next one. A command may be shortened as long as it is the only one; an empty
line repeats step."""

_SHORT: Final = {"s": "step", "c": "continue", "l": "list", "b": "break", "w": "why", "q": "quit"}
_SHORT_MORE: Final = {"h": "help", "?": "help", "n": "step", "next": "step", "i": "inputs"}

SHOWN: Final = 40
"""Lines of a list that are shown."""


class Terminal(Protocol):
    """Where commands come from, and where answers go."""

    def ask(self) -> str | None:
        """Return the next command, None at the end."""
        ...

    def tell(self, text: str) -> None:
        """Show a line."""


Enter = Callable[[Store, Action, str | None], int]
"""Opens a shell in an action's sandbox, or runs a command there, and returns the exit code."""


class Debugger:
    """Holds a build at its breakpoints and does what commands say."""

    def __init__(self, terminal: Terminal, enter: Enter, stops: Sequence[Stop] = ()) -> None:
        """Stop before the first placement; with `stops` not before one of these is reached."""
        self.stops = list(stops)
        self._terminal = terminal
        self._enter = enter
        self._stepping = not stops
        self._failed = ""
        self._quit = False
        self._job: Job | None = None
        self._held: Held | None = None
        self._said: set[str] = set()

    def around(self, job: Job, seats: Seats) -> Seats:
        """Put itself in front of the seats of a build."""
        self._job = job
        self._held = Held(seats, self._choose)
        return self._held

    def __call__(self, event: Event) -> None:
        """Take in what happens in the build."""
        if isinstance(event, StepFinished) and event.outputs is None:
            self._failed = event.label

    # what is held

    def _choose(self, turns: Sequence[Turn], running: bool) -> Choice:
        """Say what becomes of the turns that are held."""
        if self._quit:
            return Choice()
        stop = self._reached(turns)
        if stop is None:
            return Choice(start=tuple(turns))
        self._stepping = True
        self._tell(stop)
        for text in self._next(turns):
            self._tell(text)
        while True:
            line = self._terminal.ask()
            if line is None:
                return self._at_the_end(turns)
            choice = self._do(line, running)
            if choice is not None:
                return choice

    def _reached(self, turns: Sequence[Turn]) -> str | None:
        """Say why to stop here; None where there is no reason."""
        failed, self._failed = self._failed, ""
        if failed and any(stop.failure for stop in self.stops):
            return f"stopped: {failed} failed"
        for number, stop in enumerate(self.stops, 1):
            for turn in turns:
                key = f"{number} {turn.placement.label}"
                if key not in self._said and stop.holds(turn):
                    self._said.add(key)
                    return f"breakpoint {number}: {stop.text}"
        return "stopped" if self._stepping else None

    def _at_the_end(self, turns: Sequence[Turn]) -> Choice:
        """Go on to the end where a script has no more to say."""
        self.stops.clear()
        self._stepping = False
        return Choice(start=tuple(turns))

    # commands

    def _do(self, line: str, running: bool) -> Choice | None:
        """Do what a line says; return a choice where the build goes on with it."""
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        name = self._named(word)
        if name is None:
            return None
        try:
            method = getattr(self, f"_do_{name}")
            choice = method(rest)
        except (BadCondition, BnError, ValueError) as error:
            self._tell(f"{error}")
            return None
        if choice == Choice() and not running and not self._quit:
            self._tell("nothing runs: step, continue, skip or quit")
            return None
        return choice if isinstance(choice, Choice) else None

    def _named(self, word: str) -> str | None:
        word = (_SHORT | _SHORT_MORE).get(word, word) or "step"
        names = [name[4:] for name in dir(self) if name.startswith("_do_")]
        found = [name for name in names if name == word] or [
            name for name in names if name.startswith(word)
        ]
        if len(found) == 1:
            return found[0]
        what = f"{word!r} may be {', '.join(found)}" if found else f"there is no command {word!r}"
        self._tell(f"{what}; help lists them")
        return None

    def _do_step(self, rest: str) -> Choice:
        self._stepping = True
        return Choice(start=(self._turn(rest),))

    def _do_continue(self, rest: str) -> Choice:
        self._stepping = False
        return Choice(start=tuple(self._turns()))

    def _do_wait(self, rest: str) -> Choice:
        return Choice()

    def _do_skip(self, rest: str) -> Choice:
        return Choice(skip=(self._turn(rest),))

    def _do_quit(self, rest: str) -> Choice:
        self._quit = True
        assert self._held is not None
        if self._held.running:  # else the build ends by itself, as nothing starts any more
            os.kill(os.getpid(), signal.SIGINT)
        return Choice()

    def _do_list(self, rest: str) -> None:
        for text in self._next(self._turns()):
            self._tell(text)
        assert self._held is not None
        waiting = sorted(self._held.waiting.items(), key=lambda one: (-one[1], one[0]))
        for label, rank in waiting[:SHOWN]:
            self._tell(f"  no room yet: {label}  (rank {show_duration(rank)})")
        if len(waiting) > SHOWN:
            self._tell(f"  and {len(waiting) - SHOWN} more")

    def _do_running(self, rest: str) -> None:
        assert self._held is not None
        for turn in self._held.running.values():
            self._tell(f"  {turn.placement.label} on {turn.placement.node}")

    def _do_break(self, rest: str) -> None:
        if not rest:
            raise ValueError("break ARTIFACT, break failure, or break if COND")
        self.stops.append(parse_stop(rest))
        self._tell(f"breakpoint {len(self.stops)}: {rest}")

    def _do_delete(self, rest: str) -> None:
        if not rest:
            self.stops.clear()
            return
        number = int(rest) if rest.isdecimal() else 0
        if not 1 <= number <= len(self.stops):
            raise ValueError(f"there is no breakpoint {rest}")
        del self.stops[number - 1]

    def _do_breaks(self, rest: str) -> None:
        for number, stop in enumerate(self.stops, 1):
            self._tell(f"  {number}: {stop.text}")

    def _do_why(self, rest: str) -> None:
        turn = self._turn(rest)
        self._tell(f"{turn.placement.label}: {turn.reason}")
        for text in in_words(turn.why):
            self._tell(f"  {text}")

    def _do_command(self, rest: str) -> None:
        action = self._action(rest)
        self._tell(f"action {action.digest()}")
        self._tell(f"  {shlex.join(action.command)}")
        self._tell(f"  outputs: {', '.join(action.outputs) or 'none'}")

    def _do_env(self, rest: str) -> None:
        from executors.base import BASE_ENV

        for name, value in sorted({**BASE_ENV, **self._action(rest).env}.items()):
            self._tell(f"  {name}={value}")

    def _do_inputs(self, rest: str) -> None:
        assert self._job is not None
        found = list(walk(self._job.store.cas, self._action(rest).input_root))
        for path, entry in found[:SHOWN]:
            self._tell(f"  {path}  {_shown(entry)}")
        if len(found) > SHOWN:
            self._tell(f"  and {len(found) - SHOWN} more")

    def _do_toolchains(self, rest: str) -> None:
        for tree in self._action(rest).toolchains:
            self._tell(f"  {tree}")

    def _do_shell(self, rest: str) -> None:
        assert self._job is not None
        code = self._enter(self._job.store, self._action(""), rest or None)
        self._tell(f"it ended with {code}")

    def _do_node(self, rest: str) -> None:
        node, _, label = rest.partition(" ")
        assert self._held is not None
        assert self._job is not None
        names = [one.name for one in self._job.places.nodes]
        if node not in names:
            raise ValueError(f"there is no node {node!r}, but {', '.join(names)}")
        turn = self._turn(label)
        moved = self._held.move(turn, node)
        if moved is None:
            raise ValueError(f"node {node} has no room for {turn.placement.label} now")
        self._tell(f"{turn.placement.label} will start on {node}")

    def _do_help(self, rest: str) -> None:
        self._tell(HELP)

    # what they look at

    def _turns(self) -> list[Turn]:
        assert self._held is not None
        return self._held.turns

    def _turn(self, label: str) -> Turn:
        turns = self._turns()
        if not label.strip():
            return turns[0]
        for turn in turns:
            if turn.placement.label == label.strip():
                return turn
        raise ValueError(f"it is not the turn of {label.strip()!r} now: list shows whose it is")

    def _action(self, label: str) -> Action:
        assert self._job is not None
        turn = self._turn(label)
        recipe = self._job.graph.recipes[turn.placement.label]
        cas = self._job.store.cas
        return with_inputs(cas, recipe, Digest(turn.input_root.hex())).action

    def _next(self, turns: Sequence[Turn]) -> Iterator[str]:
        for number, turn in enumerate(turns[:SHOWN]):
            sign = "→" if number == 0 else " "
            yield f"{sign} {turn.placement.label} on {turn.placement.node}: {turn.reason}"
        if len(turns) > SHOWN:
            yield f"  and {len(turns) - SHOWN} more"

    def _tell(self, text: str) -> None:
        self._terminal.tell(text)


def _shown(entry: Entry) -> str:
    match entry:
        case File(_, size, executable):
            return f"{show_size(size)}{', executable' if executable else ''}"
        case Link(target):
            return f"→ {target}"
        case Directory():
            return "an empty directory"
