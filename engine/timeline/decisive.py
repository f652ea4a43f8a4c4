"""The decisive lines of a log: where it says what went wrong, first causes before consequences.

The forms are those that tools print: compilers and linkers (gcc, clang, ld, lld, mold, rustc, go,
tsc, javac), Python, Perl, Node, shells, make, cmake, ninja, test frameworks, sanitizers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import evolve, frozen

MOST: Final = 5
"""Lines that are told at most."""

LENGTH: Final = 400
"""Characters of a line that are kept."""

_CODES: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")
"""Colours, and other control sequences of terminals."""

_PATH: Final = r"(?P<file>(?:[A-Za-z]:)?[^\s:()'\"\[\]]+)"


@frozen(kw_only=True)
class Line:
    """A decisive line: its number in the log (from 1), what says so, and the place in a file that
    it names, if it names one; `missing` is what it says is not there."""

    number: int
    kind: str
    text: str
    file: str | None = None
    line: int | None = None
    missing: str | None = None

    @property
    def place(self) -> str:
        """The place in a file, as `a.c:3`."""
        if self.file is None:
            return ""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@frozen
class _Form:
    kind: str
    pattern: re.Pattern[str]
    weak: bool = False


def _form(kind: str, pattern: str, *, weak: bool = False) -> _Form:
    return _Form(kind, re.compile(pattern), weak)


_FORMS: Final = (
    # what follows from something else comes first, as it looks like the others
    _form("linker", r"^collect2: error: ld returned \d+", weak=True),
    _form("compiler", r"^compilation terminated|all warnings being treated as errors", weak=True),
    _form("compiler", r"^error: (?:could not compile|aborting due to)", weak=True),
    _form("compiler", r"^\d+ errors? generated", weak=True),
    _form(
        "make",
        r"^g?make(?:\[\d+\])?: \*\*\* (?!No rule)(?:\[(?P<file>[^:\]]+):(?P<line>\d+): )?",
        weak=True,
    ),
    _form("ninja", r"^ninja: build stopped|^FAILED: ", weak=True),
    _form(
        "test",
        r"^(?:=+ .*\b\d+ (?:failed|errors?)\b.* =+|FAILED \(|Tests?:? +\d+ failed)",
        weak=True,
    ),
    _form("test", r"^\s*(?:\d+% tests passed|The following tests FAILED)", weak=True),
    # linkers
    _form(
        "linker", rf"(?:^|: ){_PATH}:(?:(?P<line>\d+)|\(.*?\)): (?:more )?undefined reference to"
    ),
    _form("linker", r"undefined reference to [`'\"](?P<name>[^'\"]+)'"),
    _form("linker", r"\bcannot find (?P<missing>-l\S+?)(?::|$)"),
    _form("linker", r"(?:ld\S*|mold): (?:error|fatal): "),
    _form("linker", r"multiple definition of |duplicate symbol"),
    _form("linker", r"undefined symbols?: "),
    # compilers
    _form(
        "compiler",
        rf"^{_PATH}:(?P<line>\d+):(?:\d+:)? fatal error: (?P<missing>[^:]+): No such file",
    ),
    _form(
        "compiler",
        rf"^{_PATH}:(?P<line>\d+):(?:\d+:)? (?:fatal error|error|internal compiler error)\b",
    ),
    _form("compiler", rf"^{_PATH}:(?P<line>\d+): Error: "),
    _form("compiler", rf"^{_PATH}\((?P<line>\d+)(?:,\d+)?\) ?: (?:fatal )?error \w+: "),
    _form("compiler", rf"^{_PATH}:(?P<line>\d+):\d+ - error TS\d+"),
    _form("compiler", r"^error(?:\[E\d+\])?: "),
    _form("compiler", r"^(?P<file>\S+\.go):(?P<line>\d+):(?:\d+:)? "),
    _form(
        "compiler",
        r"^(?:<[\w -]+>|cc1\w*|gcc|g\+\+|clang\S*|rustc|javac|as): (?:fatal )?error: "
        r"(?:(?P<missing>\S+): No such file)?",
    ),
    # sanitizers and crashes
    _form("crash", rf"^{_PATH}:(?P<line>\d+):\d+: runtime error: "),
    _form("crash", r"ERROR: (?:Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer"),
    _form("crash", r"^(?:thread '.*' panicked at|panic:) ?(?:(?P<file>[^\s:]+):(?P<line>\d+))?"),
    _form("crash", r"\b(?:Segmentation fault|Bus error|Illegal instruction|Floating point exc\w+)"),
    _form("crash", r"^terminate called |^Aborted\b"),
    _form(
        "memory",
        r"(?i)\bout of memory\b|virtual memory exhausted|cannot allocate memory|std::bad_alloc"
        r"|^MemoryError|\bOOM\b|^Killed\b",
    ),
    # test frameworks
    _form("test", rf"{_PATH}:(?P<line>\d+): .*Assertion [`'].*' failed"),
    _form("test", r"^FAILED (?P<file>[^\s:]+)::"),
    _form("test", r"^E   +\S"),
    _form("test", r"^(?P<file>[^\s:]+\.py):(?P<line>\d+): \w*(?:Error|Exception|Failed)\b"),
    _form("test", rf"^{_PATH}:(?P<line>\d+): (?:Failure|FAILED:?)$"),
    _form("test", r"^\[  FAILED  \] \S|^\s*--- FAIL: |^(?:FAIL|ERROR): \S+ \("),
    _form("test", r"^not ok \d+|^test \S+ \.\.\. FAILED|^\s*● |^\s*✕ "),
    _form("test", r"^(?P<file>\S+_test\.go):(?P<line>\d+): "),
    # make and its kin
    _form("make", r"\*\*\* No rule to make target [`'](?P<missing>[^']+)'"),
    _form("make", r"^(?P<file>[^\s:]+):(?P<line>\d+): \*\*\* "),
    _form("cmake", r"^CMake Error(?: at (?P<file>[^\s:]+):(?P<line>\d+))?"),
    _form("ninja", r"^ninja: (?:error|fatal): (?:'(?P<missing>[^']+)', needed by)?"),
    _form("meson", r"^(?P<file>[^\s:]+):(?P<line>\d+):\d+: ERROR: "),
    # shells and the programs that scripts call
    _form(
        "shell",
        r"^(?:\S*sh|\S+\.sh): (?:line )?(?P<line>\d+): (?P<missing>[^\s:]+): "
        r"(?:command )?not found",
    ),
    _form("shell", r"^(?:\S*sh|\S+\.sh): (?:line )?(?P<line>\d+): (?:Syntax error|.*syntax error)"),
    _form(
        "shell",
        r"^(?:\S*sh|\S+\.sh): (?:line )?(?P<line>\d+): (?:cannot (?:open|create) )?"
        r"(?P<missing>[^\s:]+): ",
    ),
    _form(
        "shell",
        r"^(?:env|exec\w*|/\S+): [‘'\"]?(?P<missing>[^\s:’'\"]+)[’'\"]?: "
        r"(?:command )?(?:not found|No such file or directory)",
    ),
    _form(
        "program",
        r"^[\w./+-]+: (?:.*? )?[‘'\"]?(?P<missing>[^\s:‘’'\"]+)[’'\"]?: No such file or directory",
    ),
    _form(
        "program",
        r": (?:Permission denied|Read-only file system|No space left on device|"
        r"Is a directory|Not a directory)$",
    ),
    _form("program", r"^cmp: |\bdiffer: (?:byte|char)|^(?:Files|Binary files) .* differ$"),
    _form("perl", r" at (?P<file>[^\s]+) line (?P<line>\d+)\.$"),
    _form("node", r"^(?:\w*Error): Cannot find module '(?P<missing>[^']+)'"),
    # anything that calls itself an error
    _form(
        "error",
        r"^(?:[\w./+-]+: )?(?:fatal )?(?:error|ERROR|Error|FATAL|fatal|FAIL|Failure)\b[:! ]",
    ),
    _form("error", r"^\w*(?:Error|Exception): "),
)

_HINT: Final = re.compile(
    r"(?i)error|fail|fatal|undefined|cannot|not found|no such|denied|differ|fault|terminat"
    r"|abort|panic|memory|killed|exception|assert|\*\*\*|^not ok|^\s*[●✕]|traceback|^E  "
    r"|multiple def|duplicate|syntax|no space|read-only|directory| line \d|\.go:\d"
)
"""What every form holds: nothing else has to be looked at closely."""

_FRAME: Final = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
_RAISED: Final = re.compile(r"^(?:\w+\.)*(?P<name>[A-Z]\w*)(?:: .*)?$|^SystemExit\b")
_ARROW: Final = re.compile(r"^\s*--> (?P<file>[^\s:]+):(?P<line>\d+)")
_SUPPLY: Final = re.compile(r"No (?:module|file) named '?(?P<missing>[^']+)'?|: '(?P<path>[^']+)'$")


def decisive(log: str, most: int = MOST) -> list[Line]:
    """Return the lines of a log that say what went wrong, at most so many, in the log's order.

    What only follows from something else is told where there is nothing better, and the last lines
    where nothing is recognised at all: their kind is then `last line`.
    """
    lines = [_CODES.sub("", text).rstrip() for text in log.splitlines()]
    strong: list[Line] = []
    weak: list[Line] = []
    for line, is_weak in _recognised(lines):
        group = weak if is_weak else strong
        if len(group) < most and not any(_same(line, known) for known in group):
            group.append(line)
        if len(strong) == most:
            break
    found = strong or weak
    if found:
        return sorted(found, key=lambda line: line.number)
    last = [(number, text) for number, text in enumerate(lines, 1) if text.strip()][-3:]
    return [Line(number=n, kind="last line", text=text[:LENGTH]) for n, text in last]


def _same(one: Line, other: Line) -> bool:
    """Say whether two lines are about the same: a file's same line, or the same words."""
    return one.text == other.text or (one.line is not None and one.place == other.place)


def _recognised(lines: Sequence[str]) -> Iterator[tuple[Line, bool]]:
    frame: re.Match[str] | None = None
    traceback = False
    for number, text in enumerate(lines, 1):
        if not text or (not traceback and not _HINT.search(text[:LENGTH])):
            continue
        text = text[:LENGTH]
        if text.startswith("Traceback (most recent call last)"):
            traceback, frame = True, None
            continue
        found = _FRAME.match(text)
        if found:
            frame, traceback = found, True
            continue
        if traceback:
            if text[:1].isspace() or not _RAISED.match(text):
                continue
            traceback = False
            yield _python(number, text, frame), False
            continue
        line = _line(number, text)
        if line is not None:
            yield _at_arrow(line[0], lines), line[1]


def _line(number: int, text: str) -> tuple[Line, bool] | None:
    for form in _FORMS:
        match = form.pattern.search(text)
        if match is None:
            continue
        groups = match.groupdict()
        place = groups.get("file"), groups.get("line")
        line = Line(
            number=number,
            kind=form.kind,
            text=text,
            file=place[0],
            line=int(place[1]) if place[1] and place[0] else None,
            missing=groups.get("missing"),
        )
        return line, form.weak
    return None


def _python(number: int, text: str, frame: re.Match[str] | None) -> Line:
    supply = _SUPPLY.search(text)
    return Line(
        number=number,
        kind="python",
        text=text,
        file=frame["file"] if frame else None,
        line=int(frame["line"]) if frame else None,
        missing=(supply["missing"] or supply["path"]) if supply else None,
    )


def _at_arrow(line: Line, lines: Sequence[str]) -> Line:
    """Return a line of a compiler that tells the place below, with that place."""
    if line.kind != "compiler" or line.file is not None or line.number >= len(lines):
        return line
    arrow = _ARROW.match(lines[line.number])
    if arrow is None:
        return line
    return evolve(line, file=arrow["file"], line=int(arrow["line"]))
