"""Kinds of differences, recognised in bytes as actions leave them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import time
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.replay.kinds import UNKNOWN, first_difference, kind_of

NOW = 1_795_291_431.0
LATER = NOW + 3.0
PATHS = b"/home/a/project/x.c", b"/build/b/project/x.c"


def kind(before: bytes, after: bytes, words: frozenset[str] = frozenset()) -> str:
    return kind_of(before, after, (NOW, LATER), words)


@given(st.binary(), st.binary())
def test_the_first_difference(before: bytes, after: bytes) -> None:
    at = first_difference(before, after)
    assert before[:at] == after[:at]
    if before != after:
        assert before[at : at + 1] != after[at : at + 1]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_anything_has_a_kind(before: bytes, after: bytes) -> None:
    if before != after:
        assert kind(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Sat Nov 21 20:28:17 UTC 2026", b"Sat Nov 21 20:28:19 UTC 2026"),
        (b"built 2026-11-21", b"built 2027-12-26"),
        (b"stamp=1795291431", b"stamp=1795291434"),
        (b"x 1795291431.123456 y", b"x 1795291434.654321 y"),
        (b"\x7fELF" + struct.pack("<I", int(NOW)), b"\x7fELF" + struct.pack("<I", int(LATER))),
        (b"abc" + struct.pack(">Q", int(NOW)), b"abc" + struct.pack(">Q", int(LATER))),
        (struct.pack("<Q", int(NOW * 1e9)), struct.pack("<Q", int(LATER * 1e9))),
    ],
)
def test_time_stamps(before: bytes, after: bytes) -> None:
    assert kind(before, after).startswith("a time stamp")


def test_the_time_in_a_gzip_header() -> None:
    before, after = (gzip.compress(b"text" * 99, mtime=t) for t in (NOW, LATER))
    assert kind(before, after).startswith("a time stamp, in binary")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"b\na\nc\n", b"a\nb\nc\n"),
        (b'{"x": 1, "y": 2}', b'{"y": 2, "x": 1}'),
        (b"a" * 512 + b"b" * 512 + b"c" * 9, b"b" * 512 + b"a" * 512 + b"c" * 9),
    ],
)
def test_orders(before: bytes, after: bytes) -> None:
    assert kind(before, after).startswith("the order")


def test_the_order_of_an_archive() -> None:
    def archive(names: list[str]) -> bytes:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as made:
            for name in names:
                made.addfile(tarfile.TarInfo(name))
        return data.getvalue()

    assert kind(archive(["a", "b", "c"]), archive(["b", "a", "c"])).startswith("the order")


@pytest.mark.parametrize(
    ("before", "after", "begin"),
    [
        (b"at 0x7ffd1234abcd", b"at 0x7ffc4321dcba", "an address"),
        (b"object at 7f12a4b3c2d1>", b"object at 7f98a4b3c2d1>", "an address"),
        (
            b"a" + struct.pack("<Q", 0x7FFC12345678),
            b"a" + struct.pack("<Q", 0x7FFD87654321),
            "an ad",
        ),
        (b"from " + PATHS[0] + b":1", b"from " + PATHS[1] + b":1", "a path"),
        (
            b"id a8648ce8-63ba-4e26-a1e4-0a68557274dd",
            b"id 4f6b7a4e-bbec-45c0-b101-f163c49db4b1",
            "s",
        ),
        (b"pid 1234", b"pid 1235", "a number: 1234 and 1235"),
        (b"aaaaa", b"aaaab", UNKNOWN),
        (b"a", b"ab", UNKNOWN),
    ],
)
def test_other_kinds(before: bytes, after: bytes, begin: str) -> None:
    assert kind(before, after).startswith(begin)


def test_host_names() -> None:
    found = kind(b"on bn here", b"on other here", frozenset({"bn", "other"}))
    assert found.startswith("the host's name")


def test_the_time_in_a_zip_is_something_else_but_no_failure() -> None:
    def archive(when: float) -> bytes:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as made:
            made.writestr(zipfile.ZipInfo("x", time.gmtime(when)[:6]), "text")
        return data.getvalue()

    assert kind(archive(NOW), archive(LATER))
