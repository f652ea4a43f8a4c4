"""Decisive lines: logs as tools write them, and any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.timeline.decisive import MOST, decisive

LOGS = {
    "gcc": (
        "a.c: In function 'main':\na.c:3:5: error: expected ';'\n    3 | x\n      |  ^\n",
        (2, "compiler", "a.c:3", None),
    ),
    "a missing header": (
        "src/a.c:2:10: fatal error: a.h: No such file or directory\ncompilation terminated.\n",
        (1, "compiler", "src/a.c:2", "a.h"),
    ),
    "a header that the command includes": (
        "<command-line>: fatal error: a.h: No such file or directory\ncompilation terminated.\n",
        (1, "compiler", "", "a.h"),
    ),
    "warnings before": (
        (
            "a.c:1:1: warning: unused\nb.c:9:1: error: bad [-Werror]\n"
            "cc1: all warnings being treated as errors\n"
        ),
        (2, "compiler", "b.c:9", None),
    ),
    "colours": ("\x1b[1ma.c:1:2: \x1b[31merror: \x1b[0mbad\n", (1, "compiler", "a.c:1", None)),
    "ld": (
        (
            "/usr/bin/ld: a.o: in function `main':\na.c:(.text+0x5): undefined reference to `f'\n"
            "collect2: error: ld returned 1 exit status\n"
        ),
        (2, "linker", "a.c", None),
    ),
    "a missing library": (
        (
            "/usr/bin/ld: cannot find -lfoo: No such file or directory\n"
            "collect2: error: ld returned 1 exit status\n"
        ),
        (1, "linker", "", "-lfoo"),
    ),
    "rustc": (
        (
            "error[E0308]: mismatched types\n --> src/main.rs:3:18\n"
            "error: aborting due to 1 previous error\n"
        ),
        (1, "compiler", "src/main.rs:3", None),
    ),
    "go": ("# x\n./a.go:3:2: undefined: foo\n", (2, "compiler", "./a.go:3", None)),
    "tsc": ("src/a.ts(3,5): error TS2304: Cannot find\n", (1, "compiler", "src/a.ts:3", None)),
    "a traceback": (
        (
            'Traceback (most recent call last):\n  File "/x/a.py", line 3, in <module>\n    f()\n'
            '    ^^^\n  File "b.py", line 9, in f\n    raise ValueError("x")\nValueError: x\n'
        ),
        (7, "python", "b.py:9", None),
    ),
    "a missing module": (
        (
            'Traceback (most recent call last):\n  File "a.py", line 3, in <module>\n'
            "    import foo\n"
            "ModuleNotFoundError: No module named 'foo'\n"
        ),
        (4, "python", "a.py:3", "foo"),
    ),
    "dash": ("/bin/sh: 1: foo: not found\n", (1, "shell", "", "foo")),
    "bash": ("x.sh: line 3: foo: command not found\n", (1, "shell", "", "foo")),
    "cat": ("cat: src/x: No such file or directory\n", (1, "program", "", "src/x")),
    "cp": ("cp: cannot stat 'x/y': No such file or directory\n", (1, "program", "", "x/y")),
    "make": ("gcc a.c\nmake: *** [Makefile:3: a.o] Error 1\n", (2, "make", "Makefile:3", None)),
    "no rule": (
        "make: *** No rule to make target 'b.c', needed by 'b.o'.  Stop.\n",
        (1, "make", "", "b.c"),
    ),
    "make after a compiler": (
        "a.c:1:1: error: bad\nmake: *** [Makefile:3: a.o] Error 1\n",
        (1, "compiler", "a.c:1", None),
    ),
    "cmake": (
        "CMake Error at CMakeLists.txt:3 (message):\n",
        (1, "cmake", "CMakeLists.txt:3", None),
    ),
    "assert": (
        "app: src/a.c:12: main: Assertion `x == 1' failed.\nAborted\n",
        (1, "test", "src/a.c:12", None),
    ),
    "gtest": ("[ RUN      ] A.B\nf_test.cc:12: Failure\n", (2, "test", "f_test.cc:12", None)),
    "a sanitizer": (
        "a.c:3:5: runtime error: signed integer overflow\n",
        (1, "crash", "a.c:3", None),
    ),
    "memory": ("cc1: out of memory allocating 9 bytes\n", (1, "memory", "", None)),
    "perl": ("boom at x.pl line 3.\n", (1, "perl", "x.pl:3", None)),
    "TAP": ("ok 1\nnot ok 2 - sums\n", (2, "test", "", None)),
}


@pytest.mark.parametrize("name", LOGS)
def test_the_first_cause_is_found(name: str) -> None:
    log, expected = LOGS[name]
    first = decisive(log)[0]
    assert (first.number, first.kind, first.place, first.missing) == expected
    assert not any(mark in first.text for mark in "\x1b\n")


def test_pytest_tells_the_test_the_line_and_what_was_wrong() -> None:
    log = (
        "=== FAILURES ===\n    def test_x():\n>       assert 1 == 2\nE       assert 1 == 2\n\n"
        "tests/test_a.py:2: AssertionError\n=== short test summary info ===\n"
        "FAILED tests/test_a.py::test_x - assert 1 == 2\n=== 1 failed in 0.02s ===\n"
    )
    assert [line.number for line in decisive(log)] == [4, 6, 8]


def test_one_error_is_told_once_and_many_in_part() -> None:
    assert len(decisive("a.c:1:1: error: x\n" * 9)) == 1
    assert len(decisive("".join(f"a.c:{n}:1: error: x\n" for n in range(99)))) == MOST


def test_where_nothing_is_recognised_the_last_lines_are_told() -> None:
    found = decisive("0 errors\nerrors.c is fine\n\nall tests passed\nbye\n\n")
    assert [(line.number, line.kind) for line in found] == [
        (2, "last line"),
        (4, "last line"),
        (5, "last line"),
    ]
    assert decisive("") == decisive("\n \n") == []


@given(st.text(st.characters(codec="utf-8"), max_size=400))
def test_any_text_is_read(text: str) -> None:
    check(text)


@given(
    st.lists(
        st.sampled_from(
            [*(log for log, _ in LOGS.values()), "x: error: y", 'File "a", line 1', "\x1b["]
        )
    )
)
def test_any_mixture_is_read(parts: list[str]) -> None:
    check("\n".join(parts))


def check(text: str) -> None:
    found = decisive(text)
    lines = text.splitlines()
    assert len(found) <= MOST
    assert [line.number for line in found] == sorted({line.number for line in found})
    assert all(1 <= line.number <= len(lines) for line in found)
    assert bool(found) == any(line.strip() for line in lines) or "\x1b" in text
