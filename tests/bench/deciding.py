"""What placement costs a build: processor time of the build loop's seats, an action, on 16 nodes.

`python -m tests.bench.deciding [STEPS]` runs made-up graphs in virtual time through the seats of
builds (`engine.several`), with plans, pins, memory, explanations and temperatures, and prints for
each policy the microseconds of processor time that one action costs, and those of the worst graph.
"""

from __future__ import annotations

import heapq
import math
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from engine.graph import Resources
from engine.placement import Node
from engine.placement.modes import policy_of
from engine.placement.work import Work, ranks
from engine.places import Places, Thread
from engine.policies import MODES, STRATEGIES
from engine.seats import Needs, Turn
from engine.several import SeveralNodes
from tests.engine.placement.graphs import random_work

GRAPHS: Final = 5
NODES: Final = 16
MEMORY: Final = 2**38
REPEATS: Final = 3
"""Runs of a graph, of which the quickest counts: others on the machine only make it slower."""

EVERY: Final = 2.0
"""Seconds of virtual time between two looks at the temperatures."""


def places(policy: str, mixed: bool, cpus: int = 1) -> Places:
    """Return 16 nodes, equal ones or such whose speeds are 1 to 4."""
    speeds = [1 + 3 * n / (NODES - 1) if mixed else 1.0 for n in range(NODES)]
    nodes = tuple(
        Node(
            name=f"n{n:02}",
            cpus=cpus,
            memory=MEMORY,
            free_cpus=cpus,
            free_memory=MEMORY,
            speed=speed,
        )
        for n, speed in enumerate(speeds)
    )
    threads = {
        one.name: tuple(Thread(n * cpus + c, n * cpus + c, None) for c in range(cpus))
        for n, one in enumerate(nodes)
    }
    return Places(
        nodes=nodes,
        memory=MEMORY,
        policy=policy_of(policy),
        threads=threads,
        own=True,
        asked=True,
    )


class Course:
    """A build in virtual time whose seats are timed; `spent` is their processor time in seconds."""

    def __init__(self, work: Work, where: Places, error: float, heat: bool) -> None:
        self.now = self.spent = 0.0
        self.work, self.heat = work, heat
        self.speeds = {one.name: one.speed or 1.0 for one in where.nodes}
        self.error = error
        began = time.process_time()
        needs = Needs(lambda _: Resources(), lambda _: 10 << 20)
        self.seats = SeveralNodes(where, work, needs, {}, lambda: self.now)
        self.spent += time.process_time() - began

    def temperatures(self) -> dict[str, float | None]:
        """Return how warm the nodes are: some come near their limit every now and then."""
        return {name: 60 + 15 * math.sin(self.now + n) for n, name in enumerate(self.speeds)}

    def timed(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the seats and count its time."""
        began = time.process_time()
        result = call(*arguments)
        self.spent += time.process_time() - began
        return result

    def run(self) -> float:
        """Run everything; return the processor time of the seats."""
        work, rank = self.work, ranks(self.work)
        numbers = {label: number for number, label in enumerate(work.labels)}
        missing = [len(needs) for needs in work.needs]
        running: list[tuple[float, str, Turn]] = []
        ready = [number for number, count in enumerate(missing) if not count]
        looked, done = 0.0, 0
        while done < len(work):
            if self.heat and self.now >= looked:
                warm = {
                    name: 60 + 10 * math.sin(self.now + n) for n, name in enumerate(self.speeds)
                }
                self.timed(self.seats.warm, warm)
                looked = self.now + EVERY
            for number in ready:
                self.timed(self.seats.add, work.labels[number], rank[number], "new", b"")
            ready = []
            for turn in self.timed(self.seats.take):
                one = turn.placement
                number = numbers[one.label]
                off = 1 + self.error * math.sin(number * 7.0)
                end = self.now + work.seconds[number] * off / self.speeds[one.node]
                heapq.heappush(running, (end, one.label, turn))
            assert running, "nothing runs"
            self.now, label, turn = heapq.heappop(running)
            self.timed(self.seats.end, turn)
            done += 1
            for other in work.after[numbers[label]]:
                missing[other] -= 1
                if not missing[other]:
                    ready.append(other)
        return self.spent


def main(steps: int) -> None:
    """Print a table."""
    write = sys.stdout.write
    write(f"{'policy':16} {'nodes':8} {'case':22} {'µs an action':>12} {'worst graph':>12}\n")
    cases = (("as planned", 0.0, False), ("±30 %", 0.3, False), ("±30 %, temperatures", 0.3, True))
    for policy in dict.fromkeys((*MODES, *STRATEGIES)):
        for mixed in (False, True):
            for case, error, heat in cases:
                if policy != "unified" and case != cases[-1][0]:
                    continue
                found = []
                for seed in range(GRAPHS):
                    work = random_work(steps, seed)
                    runs = (
                        Course(work, places(policy, mixed), error, heat) for _ in range(REPEATS)
                    )
                    found.append(min(one.run() for one in runs) / steps * 1e6)
                kind = "1 to 4" if mixed else "equal"
                mean = sum(found) / len(found)
                write(f"{policy:16} {kind:8} {case:22} {mean:12.0f} {max(found):12.0f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
