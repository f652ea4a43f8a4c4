"""Graphs made of plain documents, and builds of them in virtual time."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from engine.artifacts import Materials, SourceFiles
from engine.expand import build_graph
from engine.graph import Graph
from engine.history import History
from engine.job import Job, Options
from engine.modes import run_build
from engine.placement import Node
from engine.places import Places
from engine.plan import Plan, make_plan
from engine.result import Result
from engine.spec.load import Spec, converter
from engine.spec.model import Scalar, SpecFile
from engine.spec.project import Unit
from engine.timeline.events import Event, StepStarted
from executors.simulated import SIMULATED, Simulated, Simulation, succeed
from store.digest import digest_bytes
from store.objects import Directory, Entry, File, Tree
from store.store import Store
from store.trees import build_tree

HERE = Path("/nowhere/spec.toml")

Document = dict[str, Any]
Sources = Mapping[str, Mapping[str, str]]
"""Names of sources → paths of files → what they hold."""


class Maker:
    """Makes units and graphs of plain documents, without a file or a store."""

    def unit(self, document: Document, params: Mapping[str, Scalar] | None = None) -> Unit:
        """Return the project of a document that imports nothing."""
        document = {"package": {"name": "test"}, **copy.deepcopy(document)}
        file = converter().structure(document, SpecFile)
        return Unit(Spec(HERE, file), "", {**file.params, **(params or {})})

    def graph(
        self,
        document: Document,
        sources: Sources | None = None,
        params: Mapping[str, Scalar] | None = None,
        toolchain: bytes = b"sh",
    ) -> Graph:
        """Return the graph of a document; `toolchain` is what its toolchains are made of."""
        files = {name: _files(held) for name, held in (sources or {}).items()}
        trees = {name: _pure_tree(held) for name, held in files.items()}
        return self.graph_of(self.unit(document, params), files, trees, toolchain)

    def graph_of(
        self,
        unit: Unit,
        files: Mapping[str, Mapping[str, Entry]],
        trees: Mapping[str, Tree],
        toolchain: bytes = b"sh",
    ) -> Graph:
        """Return the graph of a unit whose sources hold `files`."""
        named = {n: digest_bytes(toolchain + n.encode()) for n in unit.spec.file.toolchains}
        materials = Materials(
            sources={("", name): SourceFiles(trees[name].digest(), files[name]) for name in files},
            toolchains={("", name): (digest, {}) for name, digest in named.items()},
            platform="x86_64-linux",
            isolation=SIMULATED,
        )
        return build_graph(unit, materials)


def _files(held: Mapping[str, str]) -> dict[str, Entry]:
    data = {path: text.encode() for path, text in held.items()}
    return {path: File(digest_bytes(text), len(text)) for path, text in data.items()}


def _pure_tree(files: Mapping[str, Entry]) -> Tree:
    top: dict[str, Entry] = {path: entry for path, entry in files.items() if "/" not in path}
    for name in {path.partition("/")[0] for path in files if "/" in path}:
        below = {p.partition("/")[2]: e for p, e in files.items() if p.startswith(f"{name}/")}
        top[name] = Directory(_pure_tree(below).digest())
    return Tree(top)


def _node(cpus: int) -> Node:
    return Node(name="node", cpus=cpus, memory=2**33, free_cpus=cpus, free_memory=2**33)


@define
class Workshop:
    """A store, and builds in it by the simulated executor."""

    store: Store
    maker: Maker
    builds: int = 0
    behave: Callable[[Any], Simulation] = succeed
    events: list[tuple[float, Event]] = field(factory=list)
    """The last build's events with the virtual times at which they happened."""

    def graph(
        self,
        document: Document,
        sources: Sources | None = None,
        params: Mapping[str, Scalar] | None = None,
    ) -> Graph:
        """Return the graph of a document whose sources are put into the store."""
        files = {name: _files(held) for name, held in (sources or {}).items()}
        for held in (sources or {}).values():
            for text in held.values():
                self.store.cas.put_bytes(text.encode())
        trees = {
            name: self.store.cas.get_tree(build_tree(self.store.cas, held))
            for name, held in files.items()
        }
        return self.maker.graph_of(self.maker.unit(document, params), files, trees)

    @property
    def history(self) -> History:
        """The history of the documents' spec."""
        return History(self.store, HERE)

    def plan(self, graph: Graph, *targets: str) -> Plan:
        """Return the plan for targets (all artifacts if none is named)."""
        names = targets or tuple(name for name in graph.artifacts if name)
        labels = tuple(label for name in names for label in graph.artifacts[name])
        return make_plan(graph, labels, self.store, self.history)

    def build(
        self,
        graph: Graph,
        *targets: str,
        cpus: int = 4,
        keep_going: bool = False,
        places: Places | None = None,
    ) -> Result:
        """Build targets in virtual time, on so many processors or in `places`, and note the
        events."""
        self.builds += 1
        self.events.clear()
        job = Job(
            build=f"build-{self.builds}",
            graph=graph,
            plan=self.plan(graph, *targets),
            store=self.store,
            executor=Simulated(self.store.cas, self.behave),
            history=self.history,
            options=Options(node=_node(cpus), places=places, keep_going=keep_going),
            emit=lambda event: self.events.append((trio.current_time(), event)),
        )
        return trio.run(run_build, job, clock=MockClock(autojump_threshold=0))

    def starts(self) -> list[tuple[float, StepStarted]]:
        """Return the last build's starts, by time since it began."""
        zero = self.events[0][0]
        return [
            (round(time - zero, 6), event)
            for time, event in self.events
            if isinstance(event, StepStarted)
        ]

    def told(self, kind: type[Event]) -> list[Any]:
        """Return the last build's events of one kind."""
        return [event for _, event in self.events if isinstance(event, kind)]


@pytest.fixture(scope="session")
def maker() -> Maker:
    return Maker()


@pytest.fixture
def workshop(store: Store, maker: Maker) -> Workshop:
    return Workshop(store, maker)


@define
class Files:
    """A directory to write files to."""

    directory: Path

    def put(self, path: str, text: str) -> Path:
        """Write a file, its text dedented."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text))
        return target


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A directory of files, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return Files(tmp_path)
