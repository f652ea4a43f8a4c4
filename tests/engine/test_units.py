"""Sizes and durations, read and shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *[("0", 0), ("12", 12), ("12B", 12), ("1kB", 1000), ("1KB", 1000), ("512MB", 512_000_000)],
        *[("2GiB", 2**31), ("2G", 2**31), ("1.5G", 3 * 2**29), ("1 TB", 10**12), (" 4 K ", 4096)],
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1e3", "1 2", "1mb", "1XB", "1.", "0x1", "1,5G"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("90s", 90.0), ("90", 90.0), ("10m", 600.0), ("10min", 600.0), ("1.5h", 5400.0)],
        *[("1d", 86400.0), ("250ms", 0.25), ("0", 0.0)],
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 week", "1M", "1h30m"])
def test_bad_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        *[(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345, "12 kB"), (999_999, "1000 kB")],
        *[(12_345_678, "12 MB"), (2**40, "1.1 TB"), (10**16, "10000.0 TB")],
    ],
)
def test_sizes_are_shown(size: int, shown: str) -> None:
    assert show_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        *[(0, "0.00 s"), (0.423, "0.42 s"), (1.25, "1.2 s"), (9.94, "9.9 s"), (9.96, "10 s")],
        *[(59.4, "59 s"), (59.6, "60 s"), (60, "1 min 0 s"), (200, "3 min 20 s")],
        *[(3599.7, "1 h 0 min"), (7260, "2 h 1 min"), (90_000, "25 h 0 min")],
    ],
)
def test_durations_are_shown(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


@given(st.integers(0, 10**15))
def test_a_size_is_shown_to_a_few_percent(size: int) -> None:
    assert parse_size(show_size(size)) == pytest.approx(size, rel=0.051)
