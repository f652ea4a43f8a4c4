"""Graphs for tests of placement."""

from __future__ import annotations

import random

from engine.placement.work import Work, make_work


def random_work(size: int, seed: int, wide: int = 1, memory: int = 0) -> Work:
    """Return a graph in which steps need some of the few before them."""
    dice = random.Random(seed)
    names = [f"s{number:03}" for number in range(size)]
    return make_work(
        {name: round(dice.lognormvariate(0.5, 0.8), 3) for name in names},
        {
            name: dice.sample(names[max(0, n - 12) : n], min(n, dice.randint(0, 3)))
            for n, name in enumerate(names)
        },
        {name: dice.randint(1, wide) for name in names},
        {name: dice.randint(0, memory) for name in names},
        {name: dice.randint(0, 10**6) for name in names},
    )


def best_makespan(work: Work, speeds: list[float]) -> float:
    """Return the shortest makespan there is, by trying all schedules in which no step could start
    earlier on its lane: for a handful of steps."""
    best = sum(work.seconds) / max(speeds) * 2 + 1

    def put(done: dict[int, float], free: list[float]) -> None:
        nonlocal best
        if len(done) == len(work):
            best = min(best, max(done.values(), default=0.0))
            return
        tried = set()
        for step in range(len(work)):
            if step in done or any(need not in done for need in work.needs[step]):
                continue
            ready = max((done[need] for need in work.needs[step]), default=0.0)
            for lane, speed in enumerate(speeds):
                key = (step, speed, free[lane])
                if key in tried:
                    continue
                tried.add(key)
                end = max(ready, free[lane]) + work.seconds[step] / speed
                if end < best:
                    put({**done, step: end}, [*free[:lane], end, *free[lane + 1 :]])

    put({}, [0.0] * len(speeds))
    return best
