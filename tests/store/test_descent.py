"""Descent: what was made of something bad, in stores made up for that."""

from __future__ import annotations

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from store.closure import Closure, Kind
from store.descent import Descent, Lineage
from store.digest import Digest, digest_bytes
from store.index import Table
from store.objects import EMPTY_TREE, Action, ActionResult, Directory, Entry, File, Realisation
from store.store import Store
from store.trees import build_tree

EMPTY = EMPTY_TREE.digest()


@frozen
class Step:
    """A step that was built."""

    action: Digest
    result: Digest
    outputs: Digest
    realisation: Digest


def tree_of(store: Store, files: dict[str, str | Entry]) -> Digest:
    entries: dict[str, Entry] = {}
    for path, what in files.items():
        if isinstance(what, str):
            entries[path] = File(store.cas.put_bytes(what.encode()), len(what))
        else:
            entries[path] = what
    return build_tree(store.cas, entries)


def step(
    store: Store,
    name: str,
    inputs: dict[str, str | Entry],
    outputs: dict[str, str | Entry],
    toolchains: tuple[Digest, ...] = (),
) -> Step:
    action = Action(
        command=("make", name), input_root=tree_of(store, inputs), toolchains=toolchains
    )
    made = tree_of(store, outputs)
    log = store.cas.put_object(f"log of {name}".encode())
    result = ActionResult(action=action.digest(), outputs=made, log=log)
    store.actions.record(action, result, dict)
    recipe = digest_bytes(f"recipe {name}".encode())
    realisation = Realisation(recipe=recipe, action=action.digest(), outputs=made)
    store.actions.record_realisation(realisation)
    store.actions.commit()
    return Step(action.digest(), result.digest(), made, realisation.digest())


def descent(store: Store, *results: Digest, contents: tuple[Digest, ...] = ()) -> Descent:
    return Lineage(store.cas, store.index).descent(results, contents)


def test_it_goes_on_from_result_to_result(store: Store) -> None:
    a = step(store, "a", {"in": "source"}, {"a": "from a"})
    b = step(store, "b", {"dep": Directory(a.outputs)}, {"b": "from b"})
    c = step(store, "c", {"deep/er": Directory(b.outputs), "x": "y"}, {"c": "from c"})
    other = step(store, "other", {"in": "source"}, {"o": "from other"})
    found = descent(store, a.result)
    assert list(found.actions) == [a.action, b.action, c.action]
    assert set(found.results) == {a.result, b.result, c.result}
    assert set(found.realisations) == {a.realisation, b.realisation, c.realisation}
    because = found.actions[c.action]
    assert because
    assert (because.where, because.action) == ("inputs", b.action)
    assert because.path in ("deep/er", "deep/er/b")
    assert found.actions[a.action] is None
    assert set(descent(store, c.result).actions) == {c.action}
    assert set(descent(store, other.result).actions) == {other.action}


def test_a_single_file_out_of_the_outputs_is_enough(store: Store) -> None:
    a = step(store, "a", {"in": "s"}, {"lib/x.h": "header", "lib/x.a": "library"})
    b = step(store, "b", {"include/other.h": "header"}, {"b": "b"})
    found = descent(store, a.result)
    because = found.actions[b.action]
    assert because
    assert because.path == "include/other.h"
    assert because.content == digest_bytes(b"header")


def test_toolchains_count_as_well(store: Store) -> None:
    a = step(store, "a", {"in": "s"}, {"bin/cc": "compiler"})
    b = step(store, "b", {"in": "t"}, {"b": "b"}, toolchains=(a.outputs,))
    because = descent(store, a.result).actions[b.action]
    assert because
    assert because.where == "toolchain"


def test_nothing_at_all_taints_nobody(store: Store) -> None:
    a = step(store, "a", {"in": "s"}, {"empty": ""})
    nothing = step(store, "nothing", {"in": "t"}, {})
    b = step(store, "b", {"also": ""}, {"b": "b"})
    c = step(store, "c", {"nothing": Directory(EMPTY)}, {"c": "c"})
    assert set(descent(store, a.result).actions) == {a.action}
    assert set(descent(store, nothing.result).actions) == {nothing.action}
    assert b.action != c.action


def test_a_bad_input_and_who_gave_it(store: Store) -> None:
    a = step(store, "a", {"in": "bad"}, {"a": "of bad"})
    b = step(store, "b", {"a": Directory(a.outputs)}, {"b": "of a"})
    lineage = Lineage(store.cas, store.index)
    found = lineage.descent([], [digest_bytes(b"bad")])
    assert list(found.actions) == [a.action, b.action]
    assert lineage.givers(digest_bytes(b"of bad")) == {a.result}
    assert lineage.givers(digest_bytes(b"bad")) == set()
    assert lineage.makers(b.outputs) == {b.result}
    both = tree_of(store, {"a": "of bad", "b": "of a", "c": "of nobody"})
    store.cas.commit_objects()
    assert Lineage(store.cas, store.index).makers(both) == {a.result, b.result}


def test_an_action_that_was_given_the_result_of_another(store: Store) -> None:
    """As where two differ only in an input that they do not read."""
    files = {"read": "r", "unread": "1"}

    def inputs(unread: str) -> dict[str, Entry]:
        texts = files | {"unread": unread}
        return {n: File(store.cas.put_bytes(t.encode()), len(t)) for n, t in texts.items()}

    first = Action(command=("x",), input_root=build_tree(store.cas, inputs("1")), depfile=True)
    second = Action(command=("x",), input_root=build_tree(store.cas, inputs("2")), depfile=True)
    result = ActionResult(
        action=first.digest(),
        outputs=tree_of(store, {"o": "out"}),
        log=store.cas.put_object(b"log"),
        observed=("read",),
    )
    store.actions.record(first, result, lambda: inputs("1"))
    assert store.actions.lookup(second, lambda: inputs("2")) == result
    store.actions.commit()
    found = descent(store, contents=(digest_bytes(b"2"),))
    assert set(found.actions) == {second.digest()}
    assert set(found.results) == {result.digest()}


def test_results_of_which_nobody_knows_the_action(store: Store) -> None:
    outputs = tree_of(store, {"o": "out"})
    result = ActionResult(
        action=digest_bytes(b"elsewhere"), outputs=outputs, log=store.cas.put_object(b"log")
    )
    gone = ActionResult(action=result.action, outputs=digest_bytes(b"gone"), log=result.log)
    for one in (result, gone):
        store.cas.put_object(one.encode())
    store.cas.commit_objects()
    lineage = Lineage(store.cas, store.index)
    assert lineage.strangers() == {result.digest(), gone.digest()}
    assert lineage.descent([gone.digest()], []).unknown == {gone.outputs}


def test_results_of_which_the_action_came_without_its_inputs(store: Store) -> None:
    outputs, tool = tree_of(store, {"o": "out"}), tree_of(store, {"t": "tool"})
    log = store.cas.put_object(b"log")
    results = {}
    for name, root in (("elsewhere", digest_bytes(b"gone")), ("known", outputs), ("none", EMPTY)):
        action = Action(command=(name,), input_root=root, toolchains=(tool,))
        result = ActionResult(action=action.digest(), outputs=outputs, log=log)
        store.cas.put_object(action.encode())
        store.actions.take_over(result)
        store.actions.also((Table.ORIGINS, action.digest(), b"{}"))
        results[name] = result
    store.actions.commit()
    lineage = Lineage(store.cas, store.index)
    assert lineage.strangers() == {results["elsewhere"].digest()}
    closure = Closure(store.cas, store.index)
    closure.mark((Kind.ACTION, one.action) for one in results.values())
    assert closure.missing <= {EMPTY}
    assert {outputs, tool, log} <= closure.live


@settings(max_examples=15)
@given(data=st.data(), size=st.integers(2, 12))
def test_it_finds_what_the_graph_says(data: st.DataObject, size: int) -> None:
    """Random graphs, each step with contents of its own: descent is reachability."""
    import tempfile
    from pathlib import Path

    needs = [
        data.draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        for number in range(size)
    ]
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory) / "s") as store:
        made: list[Step] = []
        for number, below in enumerate(needs):
            inputs: dict[str, str | Entry] = {"own": f"source {number}"}
            inputs |= {f"dep{one}": Directory(made[one].outputs) for one in below}
            made.append(step(store, str(number), inputs, {"out": f"output {number}"}))
        start = data.draw(st.integers(0, size - 1))
        reached = {start}
        for number, below in enumerate(needs):
            if below & reached:
                reached.add(number)
        found = descent(store, made[start].result)
        assert set(found.results) == {made[one].result for one in reached}
        assert set(found.realisations) == {made[one].realisation for one in reached}
