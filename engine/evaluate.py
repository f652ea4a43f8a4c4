"""Evaluation: a spec file on disk → the graph, with every source and toolchain made real."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from engine.artifacts import Materials, SourceFiles
from engine.background import Background
from engine.expand import build_graph
from engine.kept_graph import Evaluation, Ground, KeptGraph, Local, Watched
from engine.sources.realise import SourceTree, known_source, realise_source
from engine.spec.faults import Fault, SpecError, located, spec_error
from engine.spec.load import read
from engine.spec.model import SOURCE_KINDS, SourceSpec, ToolchainFile, ToolchainSpec
from engine.spec.project import Unit, load_project
from engine.toolchains.importer import Toolchain, known_toolchain, take_toolchain
from store.cas import empty_tree
from store.digest import Digest
from store.errors import BnError
from store.helpers import Helpers
from store.ingest import Signature, signature
from store.store import Store
from store.trees import walk


def evaluate(
    store: Store,
    path: Path,
    sets: Mapping[str, str],
    profile: str | None,
    isolation: str,
    kept: KeptGraph | None = None,
    meanwhile: Callable[[bool], None] = lambda wide: None,
) -> Evaluation:
    """Load the spec at `path`, fetch and ingest its sources, import its toolchains, and return the
    graph, which is put into `kept`.

    The toolchains take longest and wait most, for dpkg and the disk, so a thread does them; after
    the sources `meanwhile` is called, with whether there are steps that can run side by side. What
    makes toolchains durable goes on when this returns (`Cas.settled`).

    Raises InputError, HostError and IntegrityError, placed where they stand in a spec; what can be
    found wrong in one go is reported in one go.
    """
    taken = time.time_ns()
    store.cas.settled()
    project = load_project(path, sets, profile)
    units = list(project.units())
    faults = [fault for unit in units for fault in _source_faults(unit)]
    if faults:
        raise spec_error(faults)
    errors: list[BnError] = []
    tools = _tools(store, units)
    with contextlib.ExitStack() as stack:
        imports = any(isinstance(one, ToolchainSpec) for one in tools.values())
        if imports and store.cas.helpers is None:
            stack.enter_context(Helpers(store.cas))  # before there are threads
        idle = threading.Event()
        importing = Background(functools.partial(_toolchains, store, units, tools, idle.is_set))
        stack.enter_context(importing)
        sources = _sources(store, units, errors)
        meanwhile(_is_wide(units))
        idle.set()
        toolchains, watched, more, keeping = importing.result()
    errors += more
    materials = Materials(
        sources=sources,
        toolchains={key: (tools.tree, tools.env) for key, tools in toolchains.items()},
        platform=f"{os.uname().machine}-linux",
        isolation=isolation,
    )
    if keeping is not None:
        store.cas.settled = keeping.result
    try:
        graph = build_graph(project, materials, lambda: load_project(path, sets, profile))
    except SpecError as error:
        raise _joined([*errors, error]) from None
    if errors:
        raise _joined(errors)
    ground = _ground(units, sources, toolchains)
    del project, units  # with thousands of actions they are what takes most room
    if kept is not None and ground is not None:
        graph = kept.keep(graph, ground)
    snapshots = {id(one.snapshot): one.snapshot for one in sources.values() if one.snapshot}
    return Evaluation(graph, Watched(watched, snapshots.values()), taken)


def _is_wide(units: Iterable[Unit]) -> bool:
    """Say whether steps can begin side by side, as far as the specs alone show."""
    first = 0
    for unit in units:
        actions = unit.spec.file.actions
        for action in actions.values():
            if action.foreach or action.matrix:
                return True
            first += all(selector.partition(":")[0] not in actions for selector in action.inputs)
            if first > 1:
                return True
    return False


def _ground(
    units: list[Unit],
    sources: Mapping[tuple[str, str], SourceFiles],
    toolchains: Mapping[tuple[str, str], Toolchain],
) -> Ground | None:
    """Return what a graph stands on; None where a source is a single file of this machine."""
    files: dict[str, None] = {}
    local: dict[int, Local] = {}
    fetched: dict[Digest, None] = {}
    for unit in units:
        files[str(unit.spec.path)] = None
        for where in unit.spec.file.toolchains.values():
            files[str((unit.spec.directory / where).resolve())] = None
        for name, source in unit.spec.file.sources.items():
            found = sources[unit.prefix, name]
            if found.snapshot is None:
                fetched[found.tree] = None
            elif "" not in found.snapshot.stats:
                return None
            else:
                local[id(found.snapshot)] = Local(source.exclude, found.snapshot)
    memos = {tools.memo: tools.tree for tools in toolchains.values()}
    return Ground(tuple(files), tuple(memos.items()), tuple(local.values()), tuple(fetched))


_Tools = Mapping[Path, Toolchain | ToolchainSpec | BnError]
"""Toolchains by their files: what was imported before, what is to be, or what is wrong."""


def _tools(store: Store, units: list[Unit]) -> _Tools:
    """Return what is known of the toolchains of all units, each once."""
    tools: dict[Path, Toolchain | ToolchainSpec | BnError] = {}
    for unit in units:
        for where in unit.spec.file.toolchains.values():
            file = (unit.spec.directory / where).resolve()
            if file not in tools:
                try:
                    spec = read(file, ToolchainFile).toolchain
                    tools[file] = known_toolchain(store, spec, file.parent) or spec
                except BnError as error:
                    tools[file] = error
    return tools


def _toolchains(
    store: Store, units: list[Unit], tools: _Tools, idle: Callable[[], bool]
) -> tuple[
    dict[tuple[str, str], Toolchain],
    dict[str, Signature],
    list[BnError],
    Background[list[None]] | None,
]:
    """Return the toolchains of all units, each file imported once, what they depend on, what is
    wrong with them, and what by now keeps those that were imported; it has ended when the store is
    closed."""
    errors: list[BnError] = []
    keeps: list[Callable[[], None]] = []
    made: dict[tuple[str, str], Toolchain] = {}
    loaded: dict[Path, Toolchain] = {}
    watched: dict[str, Signature] = {}
    for unit in units:
        _watch(watched, str(unit.spec.path))
        for name, where in unit.spec.file.toolchains.items():
            file = (unit.spec.directory / where).resolve()
            if file not in loaded:
                try:
                    match tools[file]:
                        case ToolchainSpec() as spec:
                            loaded[file], keep = take_toolchain(store, spec, file.parent, idle)
                            keeps.append(keep)
                        case Toolchain() as known:
                            loaded[file] = known
                        case error:
                            raise error
                except BnError as error:
                    fault = unit.fault(("toolchains", name), f"toolchain {name!r}")
                    errors.append(_placed(error, fault))
                    loaded[file] = Toolchain(tree=empty_tree(store.cas), env={}, watched=())
            _watch(watched, str(file))
            made[unit.prefix, name] = loaded[file]
    for toolchain in loaded.values():
        for path in toolchain.watched:
            _watch(watched, path)
    keeping = Background(lambda: [keep() for keep in keeps]) if keeps else None
    if keeping is not None:
        store.closing.enter_context(keeping)
    return made, watched, errors, keeping


def _watch(watched: dict[str, Signature], path: str) -> None:
    try:
        watched[path] = signature(os.lstat(path))
    except OSError:
        watched[path] = (0, 0, 0, 0)


_Users = list[tuple[Unit, str]]
_Wanted = tuple[Path, SourceSpec]


def _sources(
    store: Store, units: list[Unit], errors: list[BnError]
) -> dict[tuple[str, str], SourceFiles]:
    """Return all sources of all units, each once; those that have to be fetched side by side."""
    wanted: dict[_Wanted, _Users] = {}
    for unit in units:
        for name, source in unit.spec.file.sources.items():
            base = unit.spec.directory if source.path else Path()
            wanted.setdefault((base, source), []).append((unit, name))
    real: dict[_Wanted, SourceTree | BnError | None] = {}
    for base, source in wanted:
        try:
            real[base, source] = known_source(store, source, base)
        except BnError as error:
            real[base, source] = error
    missing = [one for one, found in real.items() if found is None]
    if missing:
        import trio

        real |= trio.run(_fetch, store, missing)
    made: dict[tuple[str, str], SourceFiles] = {}
    for one, users in wanted.items():
        found = _files(store, real[one], one[1], users, errors)
        made.update(((unit.prefix, name), found) for unit, name in users)
    return made


async def _fetch(store: Store, missing: list[_Wanted]) -> dict[_Wanted, SourceTree | BnError]:
    import trio

    real: dict[_Wanted, SourceTree | BnError] = {}

    async def one(base: Path, source: SourceSpec) -> None:
        try:
            real[base, source] = await realise_source(store, source, base)
        except BnError as error:
            real[base, source] = error

    async with trio.open_nursery() as nursery:
        for base, source in missing:
            nursery.start_soon(one, base, source)
    return real


def _files(
    store: Store,
    real: SourceTree | BnError | None,
    source: SourceSpec,
    users: _Users,
    errors: list[BnError],
) -> SourceFiles:
    """Return what is in a source, nothing where there is an error, which is noted."""
    try:
        if isinstance(real, SourceTree):
            snapshot = real.snapshot
            files = snapshot.files if snapshot else dict(walk(store.cas, real.tree))
            return SourceFiles(real.tree, files, snapshot)
        assert real is not None
        error = real
    except BnError as unreadable:
        error = unreadable
    unit, name = users[0]
    kind = next(kind for kind in SOURCE_KINDS if getattr(source, kind) is not None)
    errors.append(_placed(error, unit.fault(("sources", name, kind), f"source {name!r}")))
    return SourceFiles(empty_tree(store.cas), {}, missing=True)


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


def _placed(error: BnError, fault: Fault) -> BnError:
    """Return `error` with the place in the spec that led to it."""
    return _class_of(error)(f"{located(fault)}: {error.message}", error.hint)


def _class_of(error: BnError) -> type[BnError]:
    """Return the class of the error tree that `error` belongs to."""
    return next(kind for kind in type(error).__mro__ if kind.__base__ is BnError)


def _joined(errors: list[BnError]) -> BnError:
    """Return one error for all, of the first one's class when sorted: input before host."""
    if len(errors) == 1:
        return errors[0]
    errors.sort(key=lambda error: (error.exit_code, error.message))
    return _class_of(errors[0])("\n".join(error.render() for error in errors))
