"""Recorded builds in a mount, from real timelines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.catalogue import StoreCatalogue
from engine.timeline.events import StepCached, StepFinished, StepSkipped, StepStarted
from engine.timeline.log import TimelineLog
from store.digest import Digest
from store.index import Table
from store.objects import Action, ActionResult
from store.store import Store
from store.trees import build_tree
from tests.fuse.conftest import View, eventually, sample

BUILD = "20261121-120000-000001-1"


def put_action(store: Store, *command: str) -> tuple[Action, Digest]:
    """Store an action and return it with its digest."""
    action = Action(command=command, input_root=build_tree(store.cas, {}))
    return action, store.cas.put_bytes(action.encode())


def started(label: str, action: Digest) -> StepStarted:
    return StepStarted(label=label, action=action, reason="new", placement={"node": "local"})


def finished(label: str, action: Digest, log: Digest, outputs: Digest | None) -> StepFinished:
    return StepFinished(
        label=label,
        action=action,
        status="succeeded" if outputs else "failed",
        exit_code=0 if outputs else 1,
        reason="",
        log=log,
        outputs=outputs,
        kept=None,
        seconds=1.0,
        cpu_seconds=1.0,
        peak_memory=1,
    )


def test_the_catalogue_folds_a_timeline(store: Store) -> None:
    _, action = put_action(store, "true")
    _, cached = put_action(store, "cached")
    log, tree = store.cas.put_bytes(b"log\n"), sample(store)
    result = ActionResult(action=cached, outputs=tree, log=log)
    reference = store.cas.put_bytes(result.encode()).encode()
    store.index.write([(Table.ACTION_CACHE, cached, reference)])
    catalogue = StoreCatalogue(store)
    assert catalogue.build(BUILD) is None
    timeline = TimelineLog(store.root, BUILD)
    timeline(started("a", action))
    build = catalogue.build(BUILD)
    assert build is not None
    assert [(step.label, step.log) for step in build.steps] == [("a", None)]
    timeline(finished("a", action, log, tree))
    timeline(StepCached(label="b", action=cached, outputs=tree))
    timeline(StepSkipped(label="c", because="a"))
    timeline.close()
    build = catalogue.build(BUILD)
    assert build is not None
    assert [(step.label, step.log, step.outputs) for step in build.steps] == [
        ("a", log, tree),
        ("b", log, tree),
    ]
    assert catalogue.builds() == [BUILD]


@pytest.mark.parametrize("event", ['{"event": "StepCached"}', "[]", '{"event": 7, "label": "x"}'])
def test_strange_timelines_do_no_harm(store: Store, event: str) -> None:
    directory = store.root / "builds" / BUILD
    directory.mkdir(parents=True)
    (directory / "timeline.jsonl").write_text(f"{event}\n")
    build = StoreCatalogue(store).build(BUILD)
    assert build is not None
    assert build.steps == ()


def test_a_build_is_seen_while_it_goes_on(view: View) -> None:
    with Store(view.root) as store:
        action, digest = put_action(store, "cc", "-c", "a.c")
        log = store.cas.put_bytes(b"warning: x\n")
        timeline = TimelineLog(view.root, BUILD)
        timeline(started("obj[src/a.c]", digest))
        view.start()
        build = view.mount / "builds" / BUILD
        step = build / "obj[src%2Fa.c]"
        assert json.loads((step / "action.json").read_text()) == action.document()
        assert not (step / "log").exists()
        timeline(finished("obj[src/a.c]", digest, log, view.tree))
        timeline(finished("broken", digest, log, None))
        timeline.close()
    recorded = view.root / "builds" / BUILD / "timeline.jsonl"
    eventually((step / "log").exists, "the log is there")
    eventually(lambda: same(build / "timeline.jsonl", recorded), "all events are there")
    assert (step / "log").read_text() == "warning: x\n"
    assert (step / "outputs" / "bin" / "hello").read_text().startswith("#!/bin/sh")
    assert sorted(path.name for path in (build / "broken").iterdir()) == ["action.json", "log"]
    assert view.tree in {path.name for path in (view.mount / "trees").iterdir()}


def same(one: Path, other: Path) -> bool:
    """Say whether two files hold the same."""
    return one.read_bytes() == other.read_bytes()
