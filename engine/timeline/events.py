"""Events of a build, in the order in which they happen; all that is shown is a fold of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, get_args

from store.records import field, field_names, frozen

VERSION: Final = 2
"""The version of timelines: 1 had no chain, and no keys of what was looked up."""


@frozen(kw_only=True)
class BuildStarted:
    """A build began: `steps` are planned, `cached` of them need nothing.

    `bn` is the version that built, `command` the user's command line. `spec_digest` is BLAKE3 of
    the root spec's text, `sets` and `profile` are the parameters that were given, `graph` is the
    digest of what they came to: of the recipe digests of all that is to be built, in order.
    """

    build: str
    spec: str
    targets: tuple[str, ...]
    steps: int
    cached: int
    version: int = VERSION
    bn: str = ""
    command: tuple[str, ...] = ()
    spec_digest: str = ""
    sets: dict[str, str] = field(factory=dict)
    profile: str | None = None
    executor: str = ""
    graph: str = ""


@frozen(kw_only=True)
class NodeJoined:
    """A node can be used from now on; memory in bytes, `speed` is that of one processor in BPU, or
    None. Placements are decided by these values and by what was learned."""

    node: str
    cpus: int
    memory: int
    speed: float | None
    preference: str
    only: tuple[str, ...]
    limit: float
    price: float


@frozen(kw_only=True)
class NodeLeft:
    """A node dropped out: nothing can run there until it returns, and what ran there is lost."""

    node: str


@frozen(kw_only=True)
class NodeReturned:
    """A node that had dropped out is back."""

    node: str


@frozen(kw_only=True)
class NodesWarm:
    """How warm nodes are, in °C; None where nothing tells. `at` is on the clock of decisions."""

    at: float
    celsius: dict[str, float | None]


@frozen(kw_only=True)
class PolicyChosen:
    """What decisions go by in this build, besides its nodes.

    `policy` has the members of `engine.placement.Policy` (max_wait None: for ever); None is the one
    node on which the longest chain goes first. `memory` (bytes) is what the nodes share. `only` are
    the classes of steps that nodes are for. `pins` are the processors of each node, as number, core
    and NUMA node, where actions are pinned: to all of them, or to their `own`. `isolated` says that
    nodes were divided among the targets, `no_heat` why nobody knows how warm they are. `ahead` says
    that twice as many steps may be begun as there are processors while steps are quick.
    """

    policy: dict[str, Any] | None = None
    memory: int = 0
    only: dict[str, tuple[str, ...]] = field(factory=dict)
    pins: dict[str, Any] = field(factory=dict)
    own: bool = False
    isolated: bool = False
    no_heat: str = ""
    ahead: bool = False


@frozen(kw_only=True)
class WorkKnown:
    """Steps that may have to run, as placement knows them from the beginning, where there is more
    than one node: expected seconds at speed 1, needs by number (from 0, over all events of this
    kind), and their classes where nodes are for some only. The tuples are equally long."""

    labels: tuple[str, ...]
    seconds: tuple[float, ...]
    needs: tuple[tuple[int, ...], ...]
    classes: tuple[str, ...] = ()


@frozen(kw_only=True)
class TurnsTaken:
    """What decided which steps start now, in order, and what was decided.

    Rows are `wait` (time, step, seconds of the longest chain from it on, and where they say
    something processors, bytes of memory, and whether these are what it took last), `end` (time,
    step, and how much of a failure of its node that was), `drop` (it need not run) and `lost`
    (time, step), `gone` (step: it never needs a turn), and `take` (time, and what started: step,
    node, processors, bytes, and those that it is pinned to). Times are seconds on one clock.
    """

    told: tuple[Any, ...]


@frozen(kw_only=True)
class TurnMoved:
    """The user gave a step that had not started to another node."""

    label: str
    node: str
    at: float


@frozen(kw_only=True)
class Interrupted:
    """The user, or the system, ended the build by a signal."""

    signal: str


@frozen(kw_only=True)
class StepCached:
    """A step's outputs were there already: found by its recipe or, where that came to nothing yet,
    by its action."""

    label: str
    action: str
    outputs: str
    recipe: str = ""


@frozen(kw_only=True)
class StepsCached:
    """The outputs of many steps were there already; the tuples are equally long.

    One event for up to `TOGETHER` steps: to tell of a thousand takes no longer than of ten. Readers
    of a timeline find a `StepCached` for each.
    """

    labels: tuple[str, ...]
    actions: tuple[str, ...]
    outputs: tuple[str, ...]
    recipes: tuple[str, ...] = ()


@frozen(kw_only=True)
class StepStarted:
    """A step runs now: neither its recipe nor its action were known, for this `reason`. `needs` are
    the steps whose outputs it takes. `placement` says where and why there and now, as
    `engine.placed` reads it; in timelines of earlier versions it is a text."""

    label: str
    action: str
    reason: str
    placement: dict[str, Any]
    recipe: str = ""
    needs: tuple[str, ...] = ()


@frozen(kw_only=True)
class StepFinished:
    """A step ran; `status` is succeeded, failed, killed or bad outputs."""

    label: str
    action: str
    status: str
    exit_code: int
    reason: str
    log: str
    outputs: str | None
    kept: str | None
    seconds: float
    cpu_seconds: float
    peak_memory: int


@frozen(kw_only=True)
class StepRefused:
    """A step failed before it could begin, for this `reason`: what it takes of the steps that it
    `needs` is not there. It has no action."""

    label: str
    reason: str
    recipe: str = ""
    needs: tuple[str, ...] = ()


@frozen(kw_only=True)
class StepSkipped:
    """A step was not tried, or not to its end, because `because` (another step) did not succeed or
    the build was interrupted. `needs` are the steps whose outputs it takes."""

    label: str
    because: str
    needs: tuple[str, ...] = ()


@frozen(kw_only=True)
class TierDropped:
    """A tier of the store can no longer be used as before; the build goes on with the others."""

    tier: str
    state: str
    reason: str


@frozen(kw_only=True)
class BlobsPromoted:
    """Blobs that a step needs soon were brought from slower tiers to the fastest one."""

    label: str
    blobs: int
    bytes: int


@frozen(kw_only=True)
class BlobsMoved:
    """Upkeep after a build: blobs went to a faster tier, as they are used often (`why` is hot; they
    stay where they were, too, and their bytes are not told), or to a slower one (cold, full)."""

    target: str
    why: str
    blobs: int
    bytes: int = 0
    source: str = ""


@frozen(kw_only=True)
class RemoteFound:
    """A remote cache had the results of these steps; `seconds` since it was asked."""

    remote: str
    labels: tuple[str, ...]
    seconds: float


@frozen(kw_only=True)
class RemoteFetched:
    """Blobs came from a remote cache."""

    remote: str
    blobs: int
    bytes: int
    seconds: float


@frozen(kw_only=True)
class RemoteUploaded:
    """A remote cache took results, and of their blobs those that it did not have."""

    remote: str
    results: int
    blobs: int
    bytes: int
    seconds: float


@frozen(kw_only=True)
class RemoteGivenUp:
    """A remote cache is not asked any more (`doing` is reading), or nothing is stored there any
    more (writing); the build goes on without."""

    remote: str
    doing: str
    reason: str


@frozen(kw_only=True)
class TokenWithheld:
    """A remote cache is not shown the environment's token; `reason` says why, and what helps."""

    remote: str
    reason: str


@frozen(kw_only=True)
class BuildFinished:
    """A build ended; counts of steps by how they ended, and its duration in seconds. `makespan` is
    that of what ran, with its lower bound, as `engine.makespan` tells it."""

    build: str
    status: str
    counts: dict[str, int]
    seconds: float
    makespan: dict[str, Any] | None = None


Event: TypeAlias = (
    BuildStarted
    | NodeJoined
    | NodeLeft
    | NodeReturned
    | NodesWarm
    | PolicyChosen
    | WorkKnown
    | TurnsTaken
    | TurnMoved
    | Interrupted
    | StepCached
    | StepsCached
    | StepStarted
    | StepFinished
    | StepRefused
    | StepSkipped
    | TierDropped
    | BlobsPromoted
    | BlobsMoved
    | RemoteFound
    | RemoteFetched
    | RemoteUploaded
    | RemoteGivenUp
    | TokenWithheld
    | BuildFinished
)


TOGETHER: Final = 1024
"""Steps that one event tells of at most, so that lines of a timeline do not grow beyond bounds."""


def cached_together(steps: Iterable[tuple[str, str, str, str]]) -> Iterator[StepsCached]:
    """Yield the events of steps that were there already (label, action, outputs, recipe)."""
    pending = iter(steps)
    while rows := list(itertools.islice(pending, TOGETHER)):
        labels, actions, outputs, recipes = zip(*rows, strict=True)
        yield StepsCached(labels=labels, actions=actions, outputs=outputs, recipes=recipes)


_KINDS: Final[Mapping[str, Any]] = {kind.__name__: kind for kind in get_args(Event)}


def from_document(document: Mapping[str, Any]) -> Event | None:
    """Return the event with this JSON form; None where this version knows none of its name, or
    other members of it."""
    kind = _KINDS.get(str(document.get("event")))
    if kind is None:
        return None
    names = field_names(kind)
    members = {name: _plain(document[name]) for name in names if name in document}
    try:
        event: Event = kind(**members)
    except TypeError:  # one that it must have was not there yet
        return None
    return event


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def to_document(event: Event, time: float) -> dict[str, Any]:
    """Return the JSON form of an event that happened at `time` (seconds since 1970)."""
    kind = type(event)
    document: dict[str, Any] = {"event": kind.__name__, "time": round(time, 6)}
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = field_names(kind)
    for name in names:
        document[name] = getattr(event, name)
    return document


_NAMES: Final[dict[type, tuple[str, ...]]] = {}
"""The members of events, as far as somebody asked."""
