"""Specs expanded into the graph."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping

from engine.artifacts import Artifacts, Group, Materials, SpecFaultError
from engine.graph import About, Graph
from engine.packed_graph import Groups, graph_of, pack_about
from engine.packer import Made
from engine.recipes import ActionExpander
from engine.spec.faults import Fault, KeyPath, nearest, spec_error
from engine.spec.project import Unit
from engine.spec.selector import parse_selector
from store.mapped import give_back_large

Vertex = tuple[str, str]
"""An artifact: its unit's prefix and its name."""


def build_graph(
    project: Unit, materials: Materials, load: Callable[[], Unit] | None = None
) -> Graph:
    """Return the graph of all actions of `project`. Pure; raises SpecError with all faults.

    `load` gives the project once more: where it is there, the graph does not hold it, and what an
    action says is dropped from `project` as soon as it is in the graph.
    """
    expander = _Expander(project, materials, spends=load is not None)
    give_back_large()
    for unit, name, above in _in_order(project):
        expander.expand(unit, name, above)
    expander.check_defaults()
    if expander.faults:
        raise spec_error(expander.faults)
    artifacts = {
        f"{prefix}{name}": (group.first, len(group.labels))
        for (prefix, name), group in expander.groups.items()
        if isinstance(group, Made)
    }
    packer = expander.artifacts.packer
    plain = packer.packed()
    packed = {
        "about": pack_about(_about(project, artifacts, expander.tests)),
        "artifacts": Groups.packed(artifacts, plain["labels"]),
        "isolation": materials.isolation,
        "platform": materials.platform,
        **plain,
    }
    del expander.artifacts  # it holds the expander, and that all there is of the spec
    return graph_of(packed, packer.snapshots, load or (lambda: project))


def _about(project: Unit, artifacts: Mapping[str, tuple[int, int]], tests: Container[str]) -> About:
    file = project.spec.file
    named = [name for name in file.actions if artifacts.get(name, (0, 0))[1]]
    return About(
        spec=project.spec.path,
        package=file.package.name,
        defaults=file.package.default or tuple(name for name in named if name not in tests),
        tests=tuple(name for name in named if name in tests),
    )


class _Expander:
    """Expands artifacts on demand, so that the order in which a spec names them does not matter."""

    def __init__(self, project: Unit, materials: Materials, *, spends: bool) -> None:
        self.project = project
        self.tests: set[str] = set()
        """The project's own actions that `bn test` runs."""
        self._spends = spends
        self.artifacts = Artifacts(materials, self.group)
        self.groups: dict[Vertex, Group] = {}
        self.faults: list[Fault] = []
        self._open: list[Vertex] = []

    def check_defaults(self) -> None:
        """Note a fault for every default target that does not exist."""
        file = self.project.spec.file
        for number, name in enumerate(file.package.default):
            if name not in file.actions:
                message = f"package: unknown default target {name!r}"
                hint = nearest(name, file.actions, "actions")
                at: KeyPath = ("package", "default", number)
                self.faults.append(self.project.fault(at, message, hint))

    def expand(self, unit: Unit, name: str, above: list[Vertex]) -> None:
        """Expand an action that `above`, each one needing the next, need."""
        self._open = above
        self.group(unit, name)

    def group(self, unit: Unit, name: str) -> Group:
        """Return the source or the recipes that make up an artifact of `unit`."""
        key = (unit.prefix, name)
        if key in self.groups:
            return self.groups[key]
        if name in unit.spec.file.sources:
            self.groups[key] = self.artifacts.materials.sources[key]
            return self.groups[key]
        if key in self._open:
            ring = [*self._open[self._open.index(key) :], key]
            names = " → ".join(f"{prefix}{artifact}" for prefix, artifact in ring)
            raise SpecFaultError(("actions", name), f"a cycle: {names}", at_key=True)
        self._open.append(key)
        action = ActionExpander(self.artifacts, unit, name)
        made = action.recipes()
        self._open.pop()
        if unit is self.project and action.spec.kind == "test":
            self.tests.add(name)
        if self._spends:
            unit.spend(name)
        self.faults += [fault for fault in action.faults if fault not in self.faults]
        self.groups[key] = made
        return made


def _in_order(project: Unit) -> Iterator[tuple[Unit, str, list[Vertex]]]:
    """Yield all actions, needed ones first as far as the plain text of their inputs tells, so that
    expanding them in this order does not recurse along the whole chain.

    One that closes a cycle comes with the others of the cycle.
    """
    for unit in project.units():
        done: set[str] = set()
        opened: set[str] = set()
        closing: set[str] = set()
        stack = [(name, False) for name in reversed(list(unit.spec.file.actions))]
        while stack:
            name, expanded = stack.pop()
            if name in done:
                continue
            if expanded:
                done.add(name)
                chain = stack if name in closing else []
                yield unit, name, [(unit.prefix, one) for one, through in chain if through]
                continue
            stack.append((name, True))
            opened.add(name)
            needed = list(_needed(unit, name))
            if any(one in opened and one not in done for one in needed):
                closing.add(name)
            stack.extend((one, False) for one in reversed(needed) if one not in opened)


def _needed(unit: Unit, name: str) -> Iterator[str]:
    """Yield the actions of the same unit that an action's selectors name."""
    action = unit.spec.file.actions[name]
    for text in (*action.inputs, *action.foreach):
        try:
            selector = parse_selector(text, unit.imports.__contains__)
        except ValueError:
            continue
        if selector.imported is None and selector.artifact in unit.spec.file.actions:
            yield selector.artifact
