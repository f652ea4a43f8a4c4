"""The seats of a build: on one node, or on several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.job import Job
from engine.pins import Pins
from engine.seats import Needs, OneNode, Seats


def seats_for(job: Job, peaks: Mapping[str, int], pending: Mapping[str, Iterable[str]]) -> Seats:
    """Return the seats for a job. `peaks` are bytes of memory that steps took last, as they become
    known; `pending` is what may have to run, needed ones first, with what each needs."""
    recipes, places = job.graph.recipes, job.places
    needs = Needs(lambda label: recipes[label].resources, lambda label: peaks.get(label, 0))
    if len(places.nodes) == 1:
        return OneNode(places.nodes[0], needs, Pins.of(places))
    from engine.placement.work import make_work
    from engine.several import SeveralNodes

    def kind(label: str) -> str:
        return "test" if recipes[label].test else "build"

    work = make_work(
        {label: job.history.seconds(label, neutral=places.neutral) for label in pending}, pending
    )
    return SeveralNodes(places, work, needs, kind)
