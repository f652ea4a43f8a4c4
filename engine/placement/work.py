"""What is left of a build, by number: the form in which it is planned, bounded and simulated."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from store.records import frozen


@frozen(eq=False)
class Work:
    """Steps by number: names, seconds at speed 1, what each needs and what needs it, processors and
    bytes of memory, and bytes that each gives to those that need it."""

    labels: Sequence[str]
    seconds: Sequence[float]
    needs: Sequence[Sequence[int]]
    after: Sequence[Sequence[int]]
    cpus: Sequence[int]
    memory: Sequence[int]
    sizes: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def reverse(self) -> Work:
        """The same with every arrow turned around."""
        return Work(
            self.labels,
            self.seconds,
            self.after,
            self.needs,
            self.cpus,
            self.memory,
            self.sizes,
        )


def make_work(
    seconds: Mapping[str, float],
    needs: Mapping[str, Iterable[str]],
    cpus: Mapping[str, int] | None = None,
    memory: Mapping[str, int] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Work:
    """Return the work of steps by name; what is needed and is no step has been there all along."""
    labels = list(seconds)
    numbers = {label: number for number, label in enumerate(labels)}
    below: list[list[int]] = []
    after: list[list[int]] = [[] for _ in labels]
    for number, label in enumerate(labels):
        known = (numbers[one] for one in dict.fromkeys(needs.get(label, ())) if one in numbers)
        below.append(list(known))
        for other in below[-1]:
            after[other].append(number)
    return Work(
        labels,
        list(seconds.values()),
        below,
        after,
        [(cpus or {}).get(label, 1) for label in labels],
        [(memory or {}).get(label, 0) for label in labels],
        [(sizes or {}).get(label, 0) for label in labels],
    )


def order(work: Work) -> list[int]:
    """Return the steps, needed ones first. Raises ValueError where they go round in a circle."""
    missing = [len(needs) for needs in work.needs]
    pending = deque(number for number, count in enumerate(missing) if not count)
    found: list[int] = []
    while pending:
        number = pending.popleft()
        found.append(number)
        for other in work.after[number]:
            missing[other] -= 1
            if not missing[other]:
                pending.append(other)
    if len(found) < len(work):
        raise ValueError("steps need each other in a circle")
    return found


def ranks(work: Work) -> list[float]:
    """Return for each step the longest chain (seconds at speed 1) from its start to the end of all.

    This is the upward rank of HEFT (Topcuoglu et al., 2002) without transfers.
    """
    found = list(work.seconds)
    for number in reversed(order(work)):
        found[number] += max((found[one] for one in work.after[number]), default=0.0)
    return found


def without(work: Work, gone: Sequence[int]) -> tuple[Work, list[int]]:
    """Return what is left where some steps are gone, and the numbers that it had before."""
    kept = [number for number in range(len(work)) if not gone[number]]
    new = {number: place for place, number in enumerate(kept)}
    return Work(
        [work.labels[one] for one in kept],
        [work.seconds[one] for one in kept],
        [[new[n] for n in work.needs[one] if n in new] for one in kept],
        [[new[n] for n in work.after[one] if n in new] for one in kept],
        [work.cpus[one] for one in kept],
        [work.memory[one] for one in kept],
        [work.sizes[one] for one in kept],
    ), kept
