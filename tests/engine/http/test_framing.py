"""The framing of many blobs in one body: what was put together comes apart, nothing else does."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.http.framing import Decoder, FramingError, Piece, head
from store.digest import digest_bytes

GOLDEN = Path(__file__).parents[2] / "golden" / "blobs.frames"

BLOBS = st.lists(st.binary(max_size=300), max_size=8)


def frames(blobs: list[bytes]) -> bytes:
    return b"".join(head(digest_bytes(blob), len(blob)) + blob for blob in blobs)


def decoded(parts: list[bytes], **options: int) -> list[Piece]:
    decoder = Decoder(**options)
    pieces = [piece for part in parts for piece in decoder.feed(part)]
    decoder.finish()
    return pieces


def joined(pieces: list[Piece]) -> list[bytes]:
    """Return the blobs that pieces are of, and check that these follow each other."""
    blobs: list[bytes] = []
    expected = 0
    for piece in pieces:
        assert piece.offset == expected
        blobs = [*blobs, piece.data] if expected == 0 else [*blobs[:-1], blobs[-1] + piece.data]
        expected = 0 if piece.last else piece.offset + len(piece.data)
        assert not piece.last or digest_bytes(blobs[-1]) == piece.digest
        assert not piece.last or len(blobs[-1]) == piece.size
    assert expected == 0
    return blobs


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


def test_frames_are_what_they_were() -> None:
    """Where this fails, servers and clients of other versions no longer understand us."""
    assert frames([b"", b"hello\n", bytes(range(256))]) == GOLDEN.read_bytes()


@given(BLOBS, st.lists(st.integers(0, 5000), max_size=12), st.sampled_from([0, 1, 100, 1000]))
def test_blobs_come_out_however_they_are_cut(
    blobs: list[bytes], places: list[int], whole: int
) -> None:
    pieces = decoded(cut(frames(blobs), places), whole=whole)
    assert joined(pieces) == blobs
    assert all(piece.size > whole or piece.size == len(piece.data) for piece in pieces)
    assert all(piece.data or not piece.size for piece in pieces)


@given(BLOBS.filter(bool), st.data())
def test_what_is_cut_short_is_an_error(blobs: list[bytes], data: st.DataObject) -> None:
    whole = frames(blobs)
    ends = {len(frames(blobs[:count])) for count in range(len(blobs) + 1)}
    at = data.draw(st.integers(0, len(whole) - 1).filter(lambda at: at not in ends))
    with pytest.raises(FramingError, match="cut short"):
        decoded([whole[:at]])


@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from([0, 1 << 17]))
def test_any_bytes_are_frames_or_an_error(parts: list[bytes], whole: int) -> None:
    try:
        pieces = decoded(parts, whole=whole)
    except FramingError:
        return
    assert not pieces
    assert not any(parts)


@pytest.mark.parametrize(
    "wrong",
    [
        b"x",
        b"\n",
        b"a" * 65,
        b"A" * 64 + b" 1\n",
        b"a" * 63 + b" 1\n",
        b"a" * 64 + b"  1\n",
        b"a" * 64 + b" 01\n",
        b"a" * 64 + b" -1\n",
        b"a" * 64 + b" +1\n",
        b"a" * 64 + b" 1\r\n",
        b"a" * 64 + b" \n",
        b"a" * 64 + b" 1_0\n",
        b"a" * 64 + b" 0x1\n",
        b"a" * 64 + b" " + b"9" * 17,
        b"a" * 64 + b" 1" + b"0" * 12 + b"1\n",
        b"a" * 64 + " \u0661\n".encode(),
    ],
)
def test_there_is_one_spelling_of_a_head(wrong: bytes) -> None:
    with pytest.raises(FramingError):
        decoded([wrong + b"\0" * 100])
    with pytest.raises(FramingError):
        decoded([wrong[at : at + 1] for at in range(len(wrong))])


def test_a_blob_over_the_limit_is_refused_by_its_head() -> None:
    assert joined(decoded([frames([b"12345"])], limit=5)) == [b"12345"]
    with pytest.raises(FramingError, match="over the limit"):
        decoded([head("a" * 64, 6)], limit=5)


def test_little_is_held_back() -> None:
    decoder = Decoder(whole=1000)
    assert list(decoder.feed(head("a" * 64, 1000) + b"x" * 999)) == []
    assert len(list(decoder.feed(b"x" + head("b" * 64, 1001)))) == 1
    assert [len(piece.data) for piece in decoder.feed(b"x" * 10)] == [10]
