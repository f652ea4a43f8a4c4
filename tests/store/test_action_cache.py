"""The action cache: what counts as a hit, by action digest and by what an action read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from store.action_cache import PATH_SETS_KEPT, ActionCache, observed_base, observed_key
from store.digest import Digest, digest_bytes
from store.index import Table
from store.objects import Action, ActionResult, Directory, Entry, File, Link, Realisation
from store.trees import build_tree, walk

if TYPE_CHECKING:
    from store.store import Store

RECIPE = digest_bytes(b"a recipe")


def put(store: Store, files: Mapping[str, str | Entry]) -> Digest:
    """Store a tree of texts and entries."""
    entries: dict[str, Entry] = {}
    for path, held in files.items():
        if isinstance(held, str):
            held = File(store.cas.put_bytes(held.encode()), len(held))
        entries[path] = held
    return build_tree(store.cas, entries)


def action(store: Store, files: Mapping[str, str | Entry], **changes: Any) -> Action:
    """Return an action with those inputs."""
    return Action(
        **{"command": ("cc",), "input_root": put(store, files), "depfile": True, **changes}
    )


def result(store: Store, of: Action, observed: tuple[str, ...] | None = None) -> ActionResult:
    """Return a result whose blobs are there."""
    return ActionResult(
        action=of.digest(),
        outputs=put(store, {"d/o": "the output"}),
        log=store.cas.put_bytes(b"the log"),
        observed=observed,
    )


def record(store: Store, of: Action, observed: tuple[str, ...] | None = None) -> ActionResult:
    """Record a result."""
    made = result(store, of, observed)
    store.actions.record(of, made, lambda: dict(walk(store.cas, of.input_root)))
    return made


def look_up(store: Store, of: Action) -> ActionResult | None:
    """Look an action up."""
    return store.actions.lookup(of, lambda: dict(walk(store.cas, of.input_root)))


def test_what_was_recorded_is_found(store: Store) -> None:
    one = action(store, {"a.c": "A"})
    assert look_up(store, one) is None
    made = record(store, one)
    assert look_up(store, one) == made
    assert store.actions.result_of(one.digest()) == made
    assert look_up(store, action(store, {"a.c": "B"})) is None


def test_others_see_it_after_the_commit(store: Store) -> None:
    one = action(store, {})
    made = record(store, one)
    other = ActionCache(store.cas, store.index)
    assert other.lookup(one, dict) is None
    store.actions.commit()
    assert other.lookup(one, dict) == made
    assert look_up(store, one) == made


def test_what_is_on_its_way_to_the_disk_is_still_found(store: Store) -> None:
    one, two = action(store, {}), action(store, {}, env={"A": "1"})
    made = record(store, one)
    writes = store.actions.take()
    assert look_up(store, one) == made
    also = record(store, two)
    store.actions.write(writes)
    assert (look_up(store, one), look_up(store, two)) == (made, also)
    assert [key for _, key, _ in store.actions.take()] == [two.digest()]


def test_what_could_not_be_written_is_written_the_next_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = action(store, {}), action(store, {}, env={"A": "1"})
    record(store, one)

    def interrupted(_writes: object, _more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.index, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.actions.commit()
    assert look_up(store, one) is not None
    record(store, two)
    store.actions.commit()
    assert not store.actions.take()
    other = ActionCache(store.cas, store.index)
    assert other.lookup(one, dict)
    assert other.lookup(two, dict)


@pytest.mark.parametrize("lost", ["log", "result", "tree", "inner", "file"])
def test_an_entry_whose_blobs_are_not_all_there_is_a_miss(store: Store, lost: str) -> None:
    one = action(store, {})
    made = record(store, one)
    inner = store.cas.get_tree(made.outputs).entries["d"]
    assert isinstance(inner, Directory)
    blobs = {
        "log": made.log,
        "result": digest_bytes(made.encode()),
        "tree": made.outputs,
        "inner": inner.digest,
        "file": digest_bytes(b"the output"),
    }
    assert look_up(store, one) == made
    store.cas.quarantine(blobs[lost], False)
    assert look_up(store, one) is None
    assert record(store, one) == look_up(store, one)


DAMAGED = [b"", b"x", b"\xff", b"0" * 64, b"../../format", digest_bytes(b"no result").encode()]


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_entry_is_a_miss(store: Store, data: bytes) -> None:
    store.cas.put_bytes(b"no result")
    one = action(store, {"a": "A"})
    store.index.write(
        [
            (Table.ACTION_CACHE, one.digest(), data),
            (Table.REALISATIONS, RECIPE, data),
        ]
    )
    assert look_up(store, one) is None
    assert store.actions.realisation(RECIPE) is None


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"3", b"null", b"[3]", b'["x"]', b"[[3]]"])
def test_damaged_observations_are_a_miss(store: Store, data: bytes) -> None:
    one = action(store, {"a": "A"})
    base = observed_base(one, dict(walk(store.cas, one.input_root)))
    store.index.write([(Table.OBSERVED, base, data)])
    assert look_up(store, one) is None
    record(store, one, ("a",))
    assert look_up(store, action(store, {"a": "A"}))


FILES: Mapping[str, str | Entry] = {"a.c": "A", "a.h": "H", "b.h": "I", "link": Link("a.h")}


@pytest.mark.parametrize(
    ("change", "hit"),
    [
        ({}, True),
        ({"b.h": "changed, but not read"}, True),
        ({"a.h": "changed"}, False),
        ({"a.c": "changed"}, False),
        ({"c.h": "new"}, False),
        ({"sub/a.h": "a new header that may shadow another"}, False),
        ({"b.h": None}, False),
        ({"link": Link("b.h")}, False),
        ({"b.h": Link("a.h")}, False),
        ({"a.h": Link("b.h")}, False),
    ],
)
def test_only_what_was_read_and_all_names_count(
    store: Store, change: Mapping[str, Any], hit: bool
) -> None:
    made = record(store, action(store, FILES), ("a.c", "a.h"))
    files = {path: held for path, held in {**FILES, **change}.items() if held is not None}
    assert look_up(store, action(store, files)) == (made if hit else None)


@pytest.mark.parametrize(
    "change",
    [
        {"command": ("cc", "-v")},
        {"env": {"A": "1"}},
        {"outputs": ("o",)},
        {"toolchains": (digest_bytes(b"cc"),)},
        {"platform": "other"},
        {"isolation": "native.1"},
    ],
)
def test_everything_but_inputs_counts_always(store: Store, change: Mapping[str, Any]) -> None:
    record(store, action(store, FILES), ("a.c",))
    assert look_up(store, action(store, FILES, **change)) is None


def test_an_executable_bit_of_what_was_read_counts(store: Store) -> None:
    record(store, action(store, {"a.c": "A"}), ("a.c",))
    file = File(store.cas.put_bytes(b"A", True), 1, True)
    assert look_up(store, action(store, {"a.c": file})) is None


def test_without_a_depfile_everything_counts(store: Store) -> None:
    record(store, action(store, FILES, depfile=False))
    assert look_up(store, action(store, {**FILES, "b.h": "new"}, depfile=False)) is None


def test_what_was_read_but_is_no_input_is_not_believed(store: Store) -> None:
    one = action(store, FILES)
    made = record(store, one, ("a.c", "generated.h"))
    assert look_up(store, one) == made
    assert look_up(store, action(store, {**FILES, "b.h": "new"})) is None
    entries = dict(walk(store.cas, one.input_root))
    assert observed_key(Digest("0" * 64), entries, ["link"]) is None


def test_a_hit_by_what_was_read_is_one_by_its_own_digest_from_then_on(store: Store) -> None:
    made = record(store, action(store, FILES), ("a.c",))
    other = action(store, {**FILES, "b.h": "new"})
    assert store.actions.result_of(other.digest()) is None
    assert look_up(store, other) == made
    assert store.actions.result_of(other.digest()) == made
    assert Action.decode(store.cas.get_bytes(other.digest())) == other


def test_so_many_sets_of_paths_are_remembered(store: Store) -> None:
    count = PATH_SETS_KEPT + 1
    names = [f"{number:02}" for number in range(count)]
    plain = dict.fromkeys(names, "plain")
    for name in names:
        record(store, action(store, {**plain, name: f"special {name}"}), (name,))

    def hit(name: str) -> bool:
        files = {**dict.fromkeys(names, "other"), name: f"special {name}"}
        return look_up(store, action(store, files)) is not None

    assert [name for name in names if not hit(name)] == ["00"]


def test_a_realisation_is_found_while_its_outputs_are_there(store: Store) -> None:
    outputs = put(store, {"o": "the output"})
    made = Realisation(recipe=RECIPE, action=digest_bytes(b"a"), outputs=outputs)
    assert store.actions.realisation(RECIPE) is None
    store.actions.record_realisation(made)
    assert store.actions.realisation(RECIPE) == made
    store.actions.commit()
    assert store.actions.realisation(RECIPE) == made
    store.cas.quarantine(digest_bytes(b"the output"), False)
    assert store.actions.realisation(RECIPE) is None


def test_a_realisation_of_another_recipe_is_not_believed(store: Store) -> None:
    made = Realisation(recipe=RECIPE, action=RECIPE, outputs=put(store, {}))
    reference = store.cas.put_bytes(made.encode()).encode()
    other = digest_bytes(b"another")
    store.index.write([(Table.REALISATIONS, other, reference)])
    assert store.actions.realisation(other) is None
