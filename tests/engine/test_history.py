"""History: the last actions of each step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.history import KEPT, History, Past
from store.digest import Digest, digest_bytes
from store.index import Table
from store.objects import Action

if TYPE_CHECKING:
    from store.store import Store

SPEC = Path("/a/spec.toml")


def past(name: str, **more: object) -> Past:
    """Return a past whose action's digest is made of a name."""
    return Past(action=digest_bytes(name.encode()), build=f"b-{name}", **more)  # type: ignore[arg-type]


def noted(store: Store, label: str, *pasts: Past, spec: Path = SPEC) -> History:
    """Note some pasts, one after the other, and return the history."""
    history = History(store, spec)
    for one in pasts:
        store.index.write([history.note(label, one)])
    return history


def test_the_last_one_comes_first(store: Store) -> None:
    history = noted(store, "x", past("1"), past("2"))
    assert [one.build for one in history.of("x")] == ["b-2", "b-1"]
    assert history.of("y") == []


def test_specs_have_histories_of_their_own(store: Store) -> None:
    noted(store, "x", past("1"))
    assert History(store, Path("/b/spec.toml")).of("x") == []


def test_so_many_are_kept(store: Store) -> None:
    history = noted(store, "x", *(past(str(number)) for number in range(KEPT + 3)))
    assert len(history.of("x")) == KEPT
    assert history.of("x")[-1].build == "b-3"


def test_an_action_is_remembered_once_and_moves_to_the_front(store: Store) -> None:
    history = noted(store, "x", past("1"), past("2"), past("1", ran=True, seconds=3.0))
    assert [one.build for one in history.of("x")] == ["b-1", "b-2"]
    assert history.of("x")[0].seconds == 3.0


def test_a_cached_step_keeps_what_is_known_from_its_run(store: Store) -> None:
    log = digest_bytes(b"log")
    ran = past("1", ran=True, seconds=3.0, peak_memory=7, log=log)
    (found,) = noted(store, "x", ran, past("1")).of("x")
    assert (found.ran, found.seconds, found.peak_memory, found.log) == (False, 3.0, 7, log)


def test_seconds_are_those_of_the_last_run(store: Store) -> None:
    history = noted(store, "x", past("1", ran=True, seconds=3.0), past("2"))
    assert history.seconds("x") == 3.0
    assert history.seconds("y") == 1.0
    assert history.seconds("y", 9.0) == 9.0


def test_actions_that_are_gone_are_left_out(store: Store) -> None:
    tree = Digest("0" * 64)
    actions = [Action(command=(name,), input_root=tree) for name in "abc"]
    for action in actions[:2]:
        store.cas.put_bytes(action.encode())
    pasts = [Past(action=action.digest(), build="b") for action in actions]
    history = noted(store, "x", *pasts)
    assert list(history.actions(history.of("x"))) == [actions[1], actions[0]]


def test_a_damaged_history_is_none(store: Store) -> None:
    history = noted(store, "x", past("1"))
    ((key, whole),) = list(store.index.items(Table.HISTORY))
    for damaged in (b"", b"\xff", b"{", b"{}", b"3", b"[3]", b'[{"bogus": 1}]', whole[:-4]):
        store.index.write([(Table.HISTORY, key, damaged)])
        assert history.of("x") == []
        assert history.seconds("x") == 1.0
