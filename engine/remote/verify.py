"""Verification: a sample of what remotes gave, built again here and compared byte for byte.

::

    taken ─sample─▶ what that needs, known or built here ─▶ actions ─▶ fresh sandboxes
                                                                             │
    RemoteDiffers ◀── forgotten and refused, ◀── others ◀── outputs ──▶ the same
                      and all that rests on it
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Final, Literal

from engine.abreast import abreast
from engine.execution import execute
from engine.graph import Graph
from engine.plan import Cached
from engine.resolve import NothingMatchesError, Resolved, resolve
from engine.result import Built, Result
from engine.taint import forget, tainted
from executors.base import Executor, Outcome
from store.cas import Cas
from store.digest import Digest, digest_bytes
from store.errors import NOT_REPRODUCIBLE, BnError
from store.index import Table
from store.objects import ActionResult, Directory, Entry, File, Link
from store.records import frozen
from store.refused import pair
from store.store import Store
from store.trees import walk

SHOWN: Final = 8
"""Paths that the message names of one result."""


@frozen(kw_only=True)
class Difference:
    """An output that came out otherwise here: its path, what the remote gave there and what came
    out here, as a digest, `-> TARGET` of a link, or None where there was nothing."""

    path: str
    remote: str | None
    here: str | None


@frozen(kw_only=True)
class Differing:
    """A result that came out otherwise here. `signed` names the keys for whose sake it was taken;
    `reproducible` says whether it came out the same here twice; `reason` why it did not run."""

    label: str
    action: Digest
    remote: str
    signed: str
    result: Digest | None
    outputs: Digest
    here: Digest | None
    reproducible: bool
    reason: str
    differences: tuple[Difference, ...]


@frozen(kw_only=True)
class Verified:
    """The steps that were built again, of how many that remotes gave."""

    labels: tuple[str, ...]
    of: int


class RemoteDiffers(BnError):
    """Remotes gave other results than came out here; `faults` has all of them."""

    exit_code: ClassVar[int] = NOT_REPRODUCIBLE

    def __init__(self, faults: Sequence[Differing], dropped: int) -> None:
        number = f"{len(faults)} result{'s' * (len(faults) > 1)}"
        lines = [f"{number} from remote caches came out otherwise here"]
        for one in faults:
            lines += _lines(one)
        hint = (
            f"nothing of it is kept: {dropped} entries are forgotten and refused from now on; "
            "`bn cache taint RESULT --remote` tells the remotes"
        )
        super().__init__("\n".join(lines), hint)
        self.faults = list(faults)


def sample(build: str, labels: Iterable[str], wanted: int | Literal["all"]) -> list[str]:
    """Return the steps to look at, which the build's id alone decides; in the order given."""
    every = list(labels)
    if wanted == "all" or wanted >= len(every):
        return every
    ranked = sorted(every, key=lambda label: digest_bytes(f"{build}\0{label}".encode()))
    chosen = set(ranked[:wanted])
    return [label for label in every if label in chosen]


def verify(
    build: str,
    graph: Graph,
    store: Store,
    taken: Mapping[str, str],
    wanted: int | Literal["all"],
    build_here: Callable[[Sequence[str]], Result],
    make_executor: Callable[[], Executor],
    jobs: int,
) -> Verified:
    """Build a sample of the steps `taken` (by label, with the remote) again and compare.

    `build_here` makes steps that are needed for that and are not known. Raises RemoteDiffers, and
    forgets what came out otherwise and all that rests on it, and whatever a build raises.
    """
    labels = [label for label in graph.order(tuple(taken)) if label in taken]
    chosen = sample(build, labels, wanted)
    if not chosen:
        return Verified(labels=(), of=len(labels))
    outputs = _known(graph, store, chosen, build_here)
    chosen = [label for label in chosen if label in outputs]
    resolved = {label: _resolved(graph, store, label, outputs) for label in chosen}
    again = {label: one for label, one in resolved.items() if one is not None}
    upstream = store.cas.upstream
    if upstream is not None:
        upstream.bring([Directory(one.action.input_root) for one in again.values()])
    came = _run_all(graph, store, again, make_executor, jobs)
    suspect = {
        label: again[label] for label, out in came.items() if out.outputs != outputs[label].outputs
    }
    twice = _run_all(graph, store, suspect, make_executor, jobs) if suspect else {}
    store.actions.commit()
    faults = [
        _differing(store, label, taken[label], outputs[label], came[label], twice[label])
        for label in suspect
    ]
    never = (label for label in chosen if label not in again)
    faults += [_never(store, label, taken[label], outputs[label]) for label in never]
    if faults:
        dropped = _forget(graph, store, [one.label for one in faults])
        raise RemoteDiffers(faults, dropped)
    return Verified(labels=tuple(chosen), of=len(labels))


def _known(
    graph: Graph,
    store: Store,
    chosen: Sequence[str],
    build_here: Callable[[Sequence[str]], Result],
) -> dict[str, Cached]:
    """Return what the chosen steps came to, and all that they need."""
    wanted = dict.fromkeys(chosen)
    wanted |= dict.fromkeys(need for label in chosen for need in graph.needs_of(label))
    found: dict[str, Cached] = {}
    for label in wanted:
        made = store.actions.realisation(graph.digest_of(label))
        if made is not None:
            found[label] = Cached(made.outputs, made.action)
    missing = [label for label in wanted if label not in found]
    if missing:
        result = build_here(missing)
        for label in missing:
            step = result.steps.get(label)
            if isinstance(step, Cached | Built):
                found[label] = Cached(step.outputs, step.action)
    return found


def _resolved(
    graph: Graph, store: Store, label: str, outputs: Mapping[str, Cached]
) -> Resolved | None:
    """Return the action that a step is; None where what it needs could not be made, or does not
    have what it takes from there."""
    recipe = graph.recipes[label]
    try:
        return resolve(store.cas, recipe, lambda needed: outputs[needed].outputs)
    except (KeyError, NothingMatchesError):
        return None


def _run_all(
    graph: Graph,
    store: Store,
    actions: Mapping[str, Resolved],
    make_executor: Callable[[], Executor],
    jobs: int,
) -> dict[str, Outcome]:
    """Run actions, each in a sandbox of its own, and return their outcomes by label."""
    executor = make_executor()
    ended: dict[str, Outcome] = {}

    async def one(label: str, resolved: Resolved) -> None:
        _, outcome = await execute(store.cas, executor, graph.recipes[label], resolved, False)
        if isinstance(outcome, Outcome):
            ended[label] = outcome
        elif outcome is not None:
            raise outcome

    try:
        abreast((functools.partial(one, *item) for item in actions.items()), jobs)
    finally:
        executor.close()
    return ended


def _differing(
    store: Store, label: str, remote: str, taken: Cached, came: Outcome, twice: Outcome
) -> Differing:
    signed, result = _origin(store, taken)
    same = came.outputs is not None and came.outputs == twice.outputs
    found = _compared(store, taken.outputs, came.outputs) if came.outputs is not None else []
    return Differing(
        label=label,
        action=taken.action,
        remote=remote,
        signed=signed,
        result=result,
        outputs=taken.outputs,
        here=came.outputs,
        reproducible=same,
        reason="" if came.outputs is not None else came.reason,
        differences=tuple(found),
    )


def _never(store: Store, label: str, remote: str, taken: Cached) -> Differing:
    """Return the fault of a step that cannot even be tried here."""
    signed, result = _origin(store, taken)
    return Differing(
        label=label,
        action=taken.action,
        remote=remote,
        signed=signed,
        result=result,
        outputs=taken.outputs,
        here=None,
        reproducible=False,
        reason="what it needs does not come out here",
        differences=(),
    )


def _origin(store: Store, taken: Cached) -> tuple[str, Digest | None]:
    """Return the names of the keys that signed a result, and its digest."""
    data = store.index.get(Table.ORIGINS, taken.action)
    reference = store.index.get(Table.ACTION_CACHE, taken.action)
    result = Digest(reference.decode()) if reference else None
    try:
        return str(json.loads(data or b"{}").get("key", "")), result
    except (ValueError, AttributeError):
        return "", result


def _compared(store: Store, remote: Digest, here: Digest) -> Iterator[Difference]:
    """Yield where two trees differ, by path."""
    theirs, ours = _files(store.cas, remote), _files(store.cas, here)
    for path in sorted(theirs.keys() | ours.keys()):
        if theirs.get(path) != ours.get(path):
            yield Difference(path=path, remote=theirs.get(path), here=ours.get(path))


def _files(cas: Cas, tree: Digest) -> dict[str, str]:
    return {path: _text(entry) for path, entry in walk(cas, tree)}


def _text(entry: Entry) -> str:
    match entry:
        case File(digest, _, executable):
            return f"{digest} (executable)" if executable else digest
        case Link(target):
            return f"-> {target}"
        case Directory():
            return "directory"


def _forget(graph: Graph, store: Store, labels: Sequence[str]) -> int:
    """Forget and refuse what these steps came to, what was made of it, and what the steps came to
    that rest on them; return how many entries went."""
    results: dict[Digest, None] = {}
    pairs: dict[Digest, None] = {}
    realisations: dict[Digest, None] = {}
    spoilt = set(labels)
    for label in graph.order():
        if label not in spoilt and spoilt.isdisjoint(graph.needs_of(label)):
            continue
        made = store.actions.realisation(graph.digest_of(label))
        if made is not None:
            realisations[made.digest()] = None
        if label in labels and made is not None:
            pairs[pair(made.action, made.outputs)] = None
            found = store.actions.result_of(made.action)
            if isinstance(found, ActionResult) and found.outputs == made.outputs:
                results[found.digest()] = None
        spoilt.add(label)
    for result in list(results):
        bad = tainted(store, result)
        results |= dict.fromkeys(bad.results)
        realisations |= dict.fromkeys(bad.realisations)
        pairs |= dict.fromkeys(bad.pairs)
    return forget(store, results, realisations, pairs, "it came out otherwise here")


def _lines(one: Differing) -> Iterator[str]:
    """Yield the lines that tell of one result."""
    signed = f", signed by {one.signed}" if one.signed else ", not signed"
    yield f"  {one.label}: action {one.action}"
    yield f"    from {one.remote}{signed}; result {one.result or 'unknown'}"
    if one.reason:
        yield f"    here it fails: {one.reason}"
        return
    for difference in one.differences[:SHOWN]:
        yield f"    {difference.path}"
        yield f"      remote: {difference.remote or 'nothing'}"
        yield f"      here:   {difference.here or 'nothing'}"
    if len(one.differences) > SHOWN:
        yield f"    and {len(one.differences) - SHOWN} more"
    if one.reproducible:
        yield "    it came out the same here twice"
    else:
        yield "    it came out in two ways here, too: the action is not reproducible"
