"""Positions of values and keys in TOML files, in every place that TOML has for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.spec.position import Positions

VALUES: list[tuple[str, tuple[str | int, ...]]] = [
    ("a = @1", ("a",)),
    ("x = 1\n\na=@1", ("a",)),
    ("a   =\t @'text'", ("a",)),
    ("a.b.c = @1", ("a", "b", "c")),
    ("a . b = @1", ("a", "b")),
    ('"a" = @1', ("a",)),
    ('"a b"."c.d" = @1', ("a b", "c.d")),
    ("'a'.\"é\" = @1", ("a", "é")),
    ("[t]\na = @1", ("t", "a")),
    ("[t.u]\na = @1", ("t", "u", "a")),
    ("[t]\nu.a = @1", ("t", "u", "a")),
    ("[t]\n[t.u.v]\na = @1", ("t", "u", "v", "a")),
    ('["t u"]\na = @1', ("t u", "a")),
    ("[ t . u ]\na = @1", ("t", "u", "a")),
    ("  [t]\n  a = @1", ("t", "a")),
    ("a = {b = @1}", ("a", "b")),
    ("a = {b = 1, c = {d = @2}}", ("a", "c", "d")),
    ("a = {b.c = @1}", ("a", "b", "c")),
    ("a = [@1, 2]", ("a", 0)),
    ("a = [1, 1, @1]", ("a", 2)),
    ("a = [\n  1,\n  @1,\n]", ("a", 1)),
    ("a = [ # one\n  1, # two\n  # three\n  @1 ]", ("a", 1)),
    ("a = [[1], [2, @3]]", ("a", 1, 1)),
    ("a = [{b = 1}, {b = @2}]", ("a", 1, "b")),
    ("a = '''\n[b]\n'''\nb = @1", ("b",)),
    ("a = @'''\nb = 1\n'''", ("a",)),
    ('"é" = "ü"\n"ü"."ö" = @1', ("ü", "ö")),
    ("[a.x]\nk = 1\n[b]\nk = 1\n[a.y]\nk = @1", ("a", "y", "k")),
    ("[a.y.z]\nk = @1\n[b]\nk = 1\n[a]\nm = 1", ("a", "y", "z", "k")),
    ("[a.y.z]\nk = 1\n[b]\nk = 1\n[a]\nm = @1", ("a", "m")),
    ("[a]\nx.k = 1\ny.k = @1", ("a", "y", "k")),
    ("a.x = 1\nb.x = 1\na.y = @1", ("a", "y")),
    ("[[a]]\nk = 1\n\n[[a]]\nk = @2", ("a", 1, "k")),
    ("[[a]]\nk = 1\n\n@[[a]]\nk = 2", ("a", 1)),
    ("@[[a]]\nk = 1\n\n[[a]]\nk = 2", ("a", 0)),
    ("[[a.b]]\nk = 1\n\n[[a.b]]\nk = @2", ("a", "b", 1, "k")),
    ("x = 1\n@[[a.b]]\nk = 1\n\n[[a.b]]\nk = 2", ("a", "b", 0)),
    ("[[a.b]]\nk = 1\n\n@[[a.b]]\n[[a.b]]", ("a", "b", 1)),
    ("[a]\nx = 1\n[[a.b]]\nk = 1\n@[[a.b]]\nk = 1", ("a", "b", 1)),
    ("[a.c]\nx = 1\n[[a.c.b]]\nk = 1\n@[[a.c.b]]\nk = 1", ("a", "c", "b", 1, "x")),
    ("[[a.b]]\nk = 1\n[c]\nd = 1\n[[a.b]]\nk = @2", ("a", "b", 1, "k")),
    ("[[a]]\n[[a.b]]\nk = 1\n[[a]]\n[[a.b]]\n[[a.b]]\nk = @2", ("a", 1, "b", 1, "k")),
    ("[[a]]\nk.l = 1\n[a.t]\nm = 1\n[[a]]\n[a.t]\nm = @1", ("a", 1, "t", "m")),
]

KEYS: list[tuple[str, tuple[str | int, ...]]] = [
    ("x = 1\n@a = 1", ("a",)),
    ("  @a = 1", ("a",)),
    ('@"a b" = 1', ("a b",)),
    ("[t]\n@a = 1", ("t", "a")),
    ("a = {b = 1, @c = 2}", ("a", "c")),
    ("a = {b = 1, @'c d' = 2}", ("a", "c d")),
]


def places(tmp_path: Path, marked: str, path: Any, **options: Any) -> tuple[Any, Any]:
    """Return the place of the mark in a text and the place that is found without it."""
    before = marked.partition("@")[0]
    expected = (before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)
    file = tmp_path / "file.toml"
    file.write_text(marked.replace("@", ""))
    return expected, Positions(file).find(path, **options)


@pytest.mark.parametrize(("marked", "path"), VALUES)
def test_values_are_found(tmp_path: Path, marked: str, path: tuple[str | int, ...]) -> None:
    expected, found = places(tmp_path, marked, path)
    assert found == expected


@pytest.mark.parametrize(("marked", "path"), KEYS)
def test_keys_are_found(tmp_path: Path, marked: str, path: tuple[str | int, ...]) -> None:
    expected, found = places(tmp_path, marked, path, at_key=True)
    assert found == expected


@pytest.mark.parametrize("header", ["[t]", "[t.u]", '["t".u]'])
def test_a_table_is_found_at_the_line_of_its_header(tmp_path: Path, header: str) -> None:
    file = tmp_path / "file.toml"
    file.write_text(f"a = 1\n\n{header}\nb = 1\n")
    path = ("t", "u") if "u" in header else ("t",)
    assert Positions(file).find(path)[0] == 3
    assert Positions(file).find(path, at_key=True)[0] == 3


def test_what_is_missing_is_placed_at_the_nearest_thing_above(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text("a = 1\n[t.u]\nb = 1\n")
    found = Positions(file)
    assert found.find(("t", "u", "c"))[0] == 2
    assert found.find(("t", "u", "c", 3, "d"), at_key=True)[0] == 2
    assert found.find(("x", "y")) == (1, 1)
    assert found.find(()) == (1, 1)


def test_lines_that_end_with_carriage_returns(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(b"a = 1\r\n[t]\r\nb = [\r\n  1,\r\n  2,\r\n]\r\n")
    assert Positions(file).find(("t", "b", 1)) == (5, 3)


@pytest.mark.parametrize("data", [b"", b"a = \n", b"a = 1\na = 2\n", b"\xff = 1"])
def test_files_that_are_no_toml_have_their_first_place(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "file.toml"
    file.write_bytes(data)
    assert Positions(file).find(("a",)) == (1, 1)
    assert Positions(tmp_path / "none.toml").find(("a",)) == (1, 1)
