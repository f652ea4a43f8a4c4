"""Builds in trio and, where each step waits for the one before, without it: committed meanwhile,
ended by signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from attrs import define, field

from engine.job import Job, Options
from engine.modes import run
from engine.placement import Node
from engine.result import BuildStatus, Built, Mistaken, Result
from executors.base import ExecutionRequest, Outcome, Status
from executors.simulated import SIMULATED
from executors.waiting import pause, shielded
from store.errors import HostError
from store.index import Write
from store.objects import File
from store.trees import build_tree
from tests.engine.conftest import Workshop


def _steps(needs: Mapping[str, str], word: str = "") -> dict[str, Any]:
    return {
        "actions": {
            name: {"run": [name, word], "inputs": inputs.split(), "outputs": ["o"]}
            for name, inputs in needs.items()
        }
    }


STEPS = _steps({"a": "", "b": "", "c": "a", "d": "b c"})
CHAIN = _steps({"a": "", "b": "a", "c": "b", "d": "c"})
both = pytest.mark.parametrize("document", [STEPS, CHAIN], ids=["abreast", "chain"])


@define
class Sleeping:
    """An executor whose actions take some real time, and do what they are told before."""

    workshop: Workshop
    seconds: float = 0.01
    before: Callable[[str], object] = lambda _: None
    running: int = 0
    most: int = 0
    tidied: list[str] = field(factory=list)
    isolation: str = SIMULATED

    def close(self) -> None:
        """Nothing is kept."""

    async def execute(self, request: ExecutionRequest) -> Outcome:
        """Sleep, and leave outputs that hold their paths."""
        cas = self.workshop.store.cas
        self.running += 1
        self.most = max(self.most, self.running)
        self.before(request.label)
        try:
            await pause(self.seconds)
        finally:
            with shielded():
                await pause(0.001)
            self.running -= 1
            self.tidied.append(request.label)
        entries = {p: File(cas.put_bytes(p.encode()), len(p)) for p in request.action.outputs}
        outputs = build_tree(cas, dict(entries))
        log = cas.put_object(b"")
        return Outcome(
            status=Status.SUCCEEDED,
            exit_code=0,
            log=log,
            outputs=outputs,
            wall_seconds=self.seconds,
        )


def _run(
    workshop: Workshop, executor: Sleeping, document: Any, looks: Iterable[bool] = ()
) -> Result:
    graph = workshop.graph(document)
    node = Node(name="node", cpus=2, memory=2**33, free_cpus=2, free_memory=2**33)
    job = Job(
        build="build",
        graph=graph,
        plan=workshop.plan(graph, "d"),
        store=workshop.store,
        executor=executor,
        history=workshop.history,
        options=Options(node=node, look=iter(looks)),
        emit=lambda event: None,
    )
    return run(job, int)


def test_steps_run_side_by_side(workshop: Workshop) -> None:
    executor = Sleeping(workshop)
    result = _run(workshop, executor, STEPS)
    assert result.status is BuildStatus.OK
    assert executor.most == 2
    assert sorted(executor.tidied) == ["a", "b", "c", "d"]
    again = Sleeping(workshop)
    workshop.store.actions.commit()
    assert _run(workshop, again, STEPS).status is BuildStatus.OK
    assert not again.tidied


@both
def test_what_was_taken_for_granted_is_looked_at_before_the_end(
    workshop: Workshop, document: Any
) -> None:
    look = iter([True] * 100)
    assert _run(workshop, Sleeping(workshop), document, look).status is BuildStatus.OK
    assert next(look, None) is None


@both
@pytest.mark.parametrize("at", [0, 1, 99])
def test_a_build_that_took_too_much_for_granted_comes_to_nothing(
    workshop: Workshop, document: Any, at: int
) -> None:
    looks = [number != at for number in range(100)]
    with pytest.raises(Mistaken):
        _run(workshop, Sleeping(workshop), document, looks)
    again = Sleeping(workshop)
    assert _run(workshop, again, document).status is BuildStatus.OK
    assert len(again.tidied) < 4 or document is STEPS, "what had run is kept"


WIDE = {"a": "", "b": "", "c": "", "d": "a b c"}


def _wide(workshop: Workshop, executor: Sleeping, word: str = "") -> Result:
    result = _run(workshop, executor, _steps(WIDE, word))
    workshop.store.actions.commit()
    return result


def test_few_steps_that_were_quick_run_one_after_another(workshop: Workshop) -> None:
    executor = Sleeping(workshop)
    assert _wide(workshop, executor).status is BuildStatus.OK
    assert executor.most == 2, "nobody knew how long they take"
    executor = Sleeping(workshop)
    result = _wide(workshop, executor, "changed")
    assert (result.status, executor.most) == (BuildStatus.OK, 1)
    assert executor.tidied == ["a", "b", "c", "d"]


def test_steps_that_turn_out_to_take_long_go_on_side_by_side(workshop: Workshop) -> None:
    assert _wide(workshop, Sleeping(workshop)).status is BuildStatus.OK
    executor = Sleeping(workshop, seconds=0.1)
    result = _wide(workshop, executor, "changed")
    assert (result.status, executor.most) == (BuildStatus.OK, 2)
    assert executor.tidied[0] == "a"
    assert sorted(executor.tidied) == ["a", "b", "c", "d"]
    assert result.count(Built) == 4
    executor = Sleeping(workshop)
    _wide(workshop, executor, "changed again")
    assert executor.most == 2, "they took long"


def test_the_end_of_one_that_took_long(workshop: Workshop) -> None:
    """An interruption, and an error, between the first step and those that wait for trio."""
    assert _wide(workshop, Sleeping(workshop)).status is BuildStatus.OK

    def interrupted(label: str) -> None:
        if label == "b":
            os.kill(os.getpid(), signal.SIGINT)

    executor = Sleeping(workshop, seconds=0.1, before=interrupted)
    result = _wide(workshop, executor, "changed")
    assert result.status is BuildStatus.INTERRUPTED
    assert "d" not in executor.tidied

    def failed(label: str) -> None:
        raise HostError("no more")

    with pytest.raises(HostError, match="no more"):
        _wide(workshop, Sleeping(workshop, before=failed), "other")


@both
def test_results_are_committed_meanwhile(
    workshop: Workshop, document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.committing.COMMIT_SECONDS", 0.01)
    written: list[int] = []
    write = workshop.store.actions.write

    def counted(rows: list[Write]) -> None:
        written.append(len(rows))
        write(rows)

    monkeypatch.setattr(workshop.store.actions, "write", counted)
    assert _run(workshop, Sleeping(workshop, seconds=0.05), document).status is BuildStatus.OK
    assert written


@both
def test_a_commit_that_fails_ends_the_build(
    workshop: Workshop, document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_rows: object) -> None:
        raise HostError("the disk is gone", "find it")

    monkeypatch.setattr("engine.committing.COMMIT_SECONDS", 0.01)
    monkeypatch.setattr(workshop.store.actions, "write", fail)
    executor = Sleeping(workshop, seconds=0.05)
    with pytest.raises(HostError, match="the disk is gone"):
        _run(workshop, executor, document)
    assert executor.running == 0


@both
def test_an_interrupt_ends_what_runs(workshop: Workshop, document: Any) -> None:
    def interrupt(label: str) -> None:
        if label == "c":
            os.kill(os.getpid(), signal.SIGINT)

    executor = Sleeping(workshop, before=interrupt)
    result = _run(workshop, executor, document)
    assert result.status is BuildStatus.INTERRUPTED
    assert executor.running == 0
    assert "d" not in executor.tidied
