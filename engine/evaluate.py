"""Evaluation: a spec file on disk → the graph, with every source and toolchain made real."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import trio
from attrs import frozen

from engine.expand import Materials, SourceFiles, build_graph
from engine.graph import Graph
from engine.sources.realise import realise_source
from engine.spec.faults import Fault, located, spec_error
from engine.spec.load import read
from engine.spec.model import SOURCE_KINDS, SourceSpec, ToolchainFile
from engine.spec.project import Unit, load_project
from engine.toolchains.importer import Toolchain, import_toolchain
from store.errors import BnError
from store.ingest import Signature, signature
from store.store import Store
from store.trees import walk


@frozen(eq=False)
class Evaluation:
    """A graph, and the signatures of every file and directory that it was made from.

    `taken_ns` is when it began, in nanoseconds since 1970.
    """

    graph: Graph
    watched: Mapping[str, Signature]
    taken_ns: int


async def evaluate(
    store: Store,
    path: Path,
    sets: Mapping[str, str],
    profile: str | None,
    isolation: str,
) -> Evaluation:
    """Load the spec at `path`, fetch and ingest its sources, import its toolchains, and return the
    graph. Raises InputError, HostError and IntegrityError, placed where they stand in a spec."""
    taken = time.time_ns()
    watched: dict[str, Signature] = {}
    project = load_project(path, sets, profile)
    units = list(project.units())
    sources = await _sources(store, units)
    toolchains: dict[tuple[str, str], Toolchain] = {}
    loaded: dict[Path, Toolchain] = {}
    for unit in units:
        _watch(watched, str(unit.spec.path))
        for name, where in unit.spec.file.toolchains.items():
            file = (unit.spec.directory / where).resolve()
            if file not in loaded:
                fault = unit.fault(("toolchains", name), f"toolchain {name!r}")
                loaded[file] = _toolchain(store, file, fault)
            _watch(watched, str(file))
            toolchains[unit.prefix, name] = loaded[file]
    for toolchain in loaded.values():
        for watched_path in toolchain.watched:
            _watch(watched, watched_path)
    materials = Materials(
        sources=sources,
        toolchains={key: (tools.tree, tools.env) for key, tools in toolchains.items()},
        platform=f"{os.uname().machine}-linux",
        isolation=isolation,
    )
    for source in sources.values():
        if source.snapshot is not None:
            root = source.snapshot.root
            for relative, mark in source.snapshot.stats.items():
                watched[f"{root}/{relative}" if relative else root] = mark
    return Evaluation(build_graph(project, materials), watched, taken)


def _watch(watched: dict[str, Signature], path: str) -> None:
    try:
        watched[path] = signature(os.lstat(path))
    except OSError:
        watched[path] = (0, 0, 0, 0)


async def _sources(store: Store, units: list[Unit]) -> dict[tuple[str, str], SourceFiles]:
    """Return all sources of all units, fetched side by side; all faults at once."""
    made: dict[tuple[str, str], SourceFiles] = {}
    errors: list[BnError] = []
    same: dict[tuple[Path, SourceSpec], SourceFiles] = {}
    shared: dict[tuple[Path, SourceSpec], trio.Lock] = {}

    async def one(unit: Unit, name: str, source: SourceSpec) -> None:
        key = (unit.spec.directory if source.path else Path(), source)
        async with shared.setdefault(key, trio.Lock()):
            try:
                if key not in same:
                    tree = await realise_source(store, source, unit.spec.directory)
                    snapshot = tree.snapshot
                    files = snapshot.files if snapshot else dict(walk(store.cas, tree.tree))
                    same[key] = SourceFiles(tree.tree, files, snapshot)
                made[unit.prefix, name] = same[key]
            except BnError as error:
                kind = next(k for k in SOURCE_KINDS if getattr(source, k) is not None)
                at = unit.fault(("sources", name, kind), f"source {name!r}")
                errors.append(_placed(error, at))

    faults = [fault for unit in units for fault in _source_faults(unit)]
    if faults:
        raise spec_error(faults)
    async with trio.open_nursery() as nursery:
        for unit in units:
            for name, source in unit.spec.file.sources.items():
                nursery.start_soon(one, unit, name, source)
    if errors:
        raise _joined(errors)
    return made


def _source_faults(unit: Unit) -> list[Fault]:
    """Return the faults of sources that do not say, or say twice, where they come from."""
    faults = []
    for name, source in unit.spec.file.sources.items():
        kinds = [kind for kind in SOURCE_KINDS if getattr(source, kind) is not None]
        if len(kinds) != 1:
            said = f"has {' and '.join(kinds)}" if kinds else "says nowhere to come from"
            message = f"source {name!r}: {said}: give one of {', '.join(SOURCE_KINDS)}"
            faults.append(unit.fault(("sources", name), message, at_key=True))
    return faults


def _toolchain(store: Store, file: Path, fault: Fault) -> Toolchain:
    try:
        spec = read(file, ToolchainFile).toolchain
        return import_toolchain(store, spec, file.parent)
    except BnError as error:
        raise _placed(error, fault) from error


def _placed(error: BnError, fault: Fault) -> BnError:
    """Return `error` with the place in the spec that led to it."""
    place = located(fault)
    return type_of(error)(f"{place}: {error.message}", error.hint)


def type_of(error: BnError) -> type[BnError]:
    """Return the class of the error tree that `error` belongs to."""
    return next(kind for kind in type(error).__mro__ if kind.__base__ is BnError)


def _joined(errors: list[BnError]) -> BnError:
    """Return one error for all; the class of the first by message decides the exit code."""
    errors.sort(key=lambda error: error.message)
    if len(errors) == 1:
        return errors[0]
    return type_of(errors[0])("\n".join(error.render() for error in errors))
