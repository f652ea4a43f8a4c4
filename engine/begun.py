"""How a build begins in its timeline: what was asked for, and what that came to."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from engine import __version__
from engine.graph import Graph
from engine.plan import Plan
from engine.timeline.events import BuildStarted
from store.digest import digest_bytes
from store.records import field, frozen


@frozen(kw_only=True)
class Asked:
    """What the user asked for: the command line, and what of it a graph depends on."""

    command: tuple[str, ...] = ()
    sets: Mapping[str, str] = field(factory=dict)
    profile: str | None = None
    executor: str = ""


def begun(build: str, graph: Graph, plan: Plan, asked: Asked) -> BuildStarted:
    """Return the first event of a build."""
    spec = graph.about.spec
    text = b""
    with contextlib.suppress(OSError):
        text = spec.read_bytes()
    recipes = "\n".join(map(graph.digest_of, plan.targets))
    return BuildStarted(
        build=build,
        spec=str(spec),
        targets=plan.targets,
        steps=len(plan.steps),
        cached=plan.cached,
        bn=__version__,
        command=asked.command,
        spec_digest=digest_bytes(text),
        sets=dict(asked.sets),
        profile=asked.profile,
        executor=asked.executor,
        graph=digest_bytes(recipes.encode()),
    )
