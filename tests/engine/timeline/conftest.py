"""Builds in virtual time, recorded as real ones are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from engine.timeline.course import Course, course
from engine.timeline.events import BuildStarted, to_document
from engine.timeline.log import TimelineLog
from engine.timeline.recorded import Recorded
from executors.base import ExecutionRequest
from executors.simulated import Simulation
from store.records import evolve
from tests.engine.conftest import HERE, Document, Workshop


def steps(**needs: str) -> Document:
    """Return a document of actions by what they need, each with an output `o`."""
    return {
        "actions": {
            name: {"run": [name], "inputs": needed.split(), "outputs": ["o"]}
            for name, needed in needs.items()
        }
    }


def taking(**seconds: float) -> Callable[[ExecutionRequest], Simulation]:
    """Return the behaviour of actions that take so long; one that takes less than nothing fails
    after that."""

    def behave(request: ExecutionRequest) -> Simulation:
        took = seconds.get(request.label.partition("[")[0], 1.0)
        return Simulation(seconds=abs(took), exit_code=int(took < 0))

    return behave


@define
class Recorder:
    """Builds, and their timelines: in the store, and as courses."""

    workshop: Workshop
    names: list[str] = field(factory=list)

    def build(
        self, graph: Any, *targets: str, sets: dict[str, str] | None = None, **more: Any
    ) -> Course:
        """Build and record; return the course of the build, at virtual times."""
        self.workshop.build(graph, *targets, **more)
        name = f"2026-{len(self.names):03}"
        self.names.append(name)
        log = TimelineLog(self.workshop.store.root, name)
        told = []
        for time, event in self.workshop.events:
            if isinstance(event, BuildStarted):
                event = evolve(event, build=name, sets=sets or {})
            log(event)
            told.append(to_document(event, time))
        self.workshop.store.index.put([log.close()])
        return course(name, told)

    @property
    def recorded(self) -> Recorded:
        """What was recorded."""
        return Recorded(self.workshop.store.root, str(HERE))


@pytest.fixture
def recorder(workshop: Workshop) -> Recorder:
    return Recorder(workshop)
