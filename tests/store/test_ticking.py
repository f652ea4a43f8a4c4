"""Tests of the clock whose times order what happens."""

from __future__ import annotations

import pytest

from store.ticking import BACK, STEP, Clock


def test_times_only_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    found = []
    for now in (100.0, 100.0, 99.8, 200.0, 199.0, 200.5):
        monkeypatch.setattr("time.time", lambda now=now: now)
        found.append(clock.now())
    assert found == sorted(set(found))
    assert [int(one * 1e6) for one in found] == sorted({int(one * 1e6) for one in found})
    assert (found[0], found[3], found[5]) == (100.0, 200.0, 200.5)
    assert found[4] == pytest.approx(200.0, abs=1e-3)


def test_times_of_many_are_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 100.0)
    clock = Clock()
    first = clock.now(1000)
    assert clock.now() > first + 999 * STEP


def test_a_clock_that_was_wrong_is_set_right(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for now in (1e9, 1e9 - BACK - 1):
        monkeypatch.setattr("time.time", lambda now=now: now)
        assert clock.now() == now
