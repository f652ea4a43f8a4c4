"""Depfiles: the syntax of make, and from its paths to inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.depfile import Observer, Unclear, parse_depfile
from store.objects import Entry, Link
from store.store import Store

if TYPE_CHECKING:
    from tests.conftest import Runner

# as a name at the end of a line, one that ends in a backslash would continue it
_NAMES = st.text(
    st.characters(exclude_characters="\0\n\r\t", exclude_categories=["Cs"]), min_size=1
)
NAMES = _NAMES.filter(lambda name: not name.endswith((":", "\\")))


def escaped(name: str) -> str:
    """Write a name as gcc does in a depfile."""
    written = ""
    for at, character in enumerate(name):
        if character in " #":
            backslashes = len(name[:at]) - len(name[:at].rstrip("\\"))
            written += "\\" * backslashes + "\\"
        written += "$$" if character == "$" else character
    return written


@given(
    st.lists(st.lists(NAMES, max_size=5), min_size=1, max_size=4),
    st.sampled_from([" ", "  ", " \\\n  ", "\t", " \\\r\n "]),
)
def test_what_is_written_is_read(rules: list[list[str]], gap: str) -> None:
    text = "\n".join(f"out.o:{gap}{gap.join(map(escaped, names))}" for names in rules)
    assert parse_depfile(text) == list(dict.fromkeys(name for names in rules for name in names))


@given(st.text(alphabet="ab \\:$#\n\t/."))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        found = parse_depfile(text)
    except Unclear:
        return
    assert all(found)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.o: a.c", ["a.c"]),
        ("a.o: a.c b.h \\\n  c.h\n", ["a.c", "b.h", "c.h"]),
        ("a.o b.o : a.c", ["a.c"]),
        ("a.o: a.c b.h\n\nb.h:\n", ["a.c", "b.h"]),
        ("a.o: one\\ two.h x$$y \\#1", ["one two.h", "x$y", "#1"]),
        ("a.o: back\\\\slash", ["back\\\\slash"]),
        ("# made by hand\na.o: a.c # the source\n", ["a.c"]),
        ("a.o: c:/x.h mod:part", ["c:/x.h", "mod:part"]),
        ("dir\\:x.o: a.c", ["a.c"]),
        ("a.o:\\\n a.c", ["a.c"]),
        ("a.o:", []),
        ("", []),
    ],
)
def test_examples(text: str, names: list[str]) -> None:
    assert parse_depfile(text) == names


def test_no_rule() -> None:
    with pytest.raises(Unclear):
        parse_depfile("a.c b.c\n")


FILES: dict[str, str | bytes | Entry] = {
    "src/a.c": "a",
    "src/include/x.h": "x",
    "src/include/deep/y.h": "y",
    "gen/z.h": "z",
    "src/inc": Link("include"),
    "src/up": Link("../gen"),
    "src/self": Link("self"),
    "top": Link("src/inc"),
}


@pytest.mark.parametrize(
    ("named", "observed"),
    [
        ("src/a.c", ["src/a.c"]),
        ("./src//a.c", ["src/a.c"]),
        ("/build/src/a.c", ["src/a.c"]),
        ("src/include/../a.c", ["src/a.c"]),
        ("src/inc/x.h", ["src/include/x.h"]),
        ("src/inc/../a.c", ["src/a.c"]),
        ("src/up/../src/a.c", ["src/a.c"]),
        ("top/deep/y.h", ["src/include/deep/y.h"]),
        ("../build/gen/z.h", ["gen/z.h"]),
        ("../../../build/gen/z.h", ["gen/z.h"]),
        ("src/a.c src/a.c ./src/a.c", ["src/a.c"]),
        ("src/a.c /usr/include/stdio.h", ["src/a.c"]),
        ("src/a.c /usr/lib/gcc/../../include/stdio.h", ["src/a.c"]),
        ("src/include", ["src/include/deep/y.h", "src/include/x.h"]),
        ("/usr/include/stdio.h", []),
        ("", None),
        ("src/a.c src/missing.h", None),
        ("made-here.h", None),
        ("src/a.c/x", None),
        ("src/self/x.h", None),
        ("/bn/out/made.h src/a.c", None),
        ("/tmp/made.h src/a.c", None),
        ("/proc/self/cwd/src/a.c", None),
        ("\udcff", None),
    ],
)
def test_observed(sandbox: Runner, tmp_path: Path, named: str, observed: list[str] | None) -> None:
    store: Store = sandbox.store
    inputs = sandbox.request("", files=FILES).action.input_root
    observer = Observer(store.cas, inputs, "/build", ("/bn", "/dev", "/proc", "/tmp"))
    depfile = tmp_path / "depfile"
    depfile.write_bytes(f"x.o: {named}\n".encode(errors="surrogateescape"))
    expected = None if observed is None else tuple(observed)
    assert observer.observed(depfile) == expected


async def test_a_depfile_that_is_no_file(sandbox: Runner) -> None:
    for script in ("mkfifo /bn/depfile", "ln -s /etc/passwd /bn/depfile", "mkdir /bn/depfile"):
        outcome = await sandbox.run(script, depfile=True)
        assert outcome.status == "succeeded"
        assert outcome.observed is None
