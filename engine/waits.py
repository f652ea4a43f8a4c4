"""Who waits for whom: the steps of a build by number, their ranks, and which may be looked at."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from engine.plan import Plan
from engine.steps import Steps


class Pending(Mapping[str, Iterable[str]]):
    """What the steps of a plan that are not cached need, asked when it is wanted; in the order of
    the plan."""

    def __init__(self, plan: Plan, needs: Callable[[str], Iterable[str]]) -> None:
        self._plan = plan
        self._needs = needs

    def __getitem__(self, label: str) -> Iterable[str]:
        if self._plan.is_cached(label):
            raise KeyError(label)
        return self._needs(label)

    def __iter__(self) -> Iterator[str]:
        is_cached = self._plan.is_cached
        return (label for label in self._plan.others if not is_cached(label))

    def __len__(self) -> int:
        return len(self._plan.others) + len(self._plan.standing) - self._plan.cached


class Waits:
    """The steps of a plan, needed ones first; `needs` and `seconds` are asked once for each label.

    Kept in arrays of numbers: some tens of bytes a step. What is needed and is no step of the plan
    has been there all along.
    """

    def __init__(
        self,
        labels: Iterable[str],
        needs: Callable[[str], Iterable[str]],
        seconds: Callable[[str], float],
    ) -> None:
        self.labels: Sequence[str]
        self.numbers: Mapping[str, int]
        if isinstance(labels, Steps):
            self.labels, self.numbers = labels.labels, labels.numbers
        else:
            self.labels = list(labels)
            self.numbers = {label: n for n, label in enumerate(self.labels)}
        self._missing = array("l", [0]) * len(self.labels)
        self._starts = array("l", [0]) * (len(self.labels) + 1)
        needing, needed = array("l"), array("l")
        for number, label in enumerate(self.labels):
            for other in map(self.numbers.get, dict.fromkeys(needs(label))):
                if other is not None:
                    needing.append(number)
                    needed.append(other)
                    self._missing[number] += 1
                    self._starts[other] += 1
        self._after = self._sorted(needing, needed)
        self.ranks = array("d", map(seconds, self.labels))
        for number in range(len(self.labels) - 1, -1, -1):
            after = self._after[self._starts[number] : self._starts[number + 1]]
            if after:
                self.ranks[number] += max([self.ranks[one] for one in after])

    def rank(self, label: str) -> float:
        """Return the longest chain (seconds) from the step's start to the end of the build.

        This is the upward rank of HEFT (Topcuoglu et al., 2002) without transfer costs.
        """
        return self.ranks[self.numbers[label]]

    def is_waiting(self, label: str) -> bool:
        """Say whether the step needs others that have not ended."""
        return self._missing[self.numbers[label]] > 0

    def after(self, label: str) -> Iterator[str]:
        """Yield the steps that need this one, in the order of the plan."""
        number = self.numbers[label]
        for place in range(self._starts[number], self._starts[number + 1]):
            yield self.labels[self._after[place]]

    def end(self, label: str) -> Iterator[str]:
        """Note that a step has outputs; yield those that waited for it last. Once for each step."""
        number = self.numbers[label]
        for place in range(self._starts[number], self._starts[number + 1]):
            other = self._after[place]
            self._missing[other] -= 1
            if not self._missing[other]:
                yield self.labels[other]

    def _sorted(self, needing: array[int], needed: array[int]) -> array[int]:
        """Return `needing` by what is needed; `_starts`, first counts, tells where it begins."""
        place = 0
        for number, count in enumerate(self._starts):
            self._starts[number] = place
            place += count
        found, free = array("l", [0]) * len(needing), self._starts[:]
        for number, other in zip(needing, needed, strict=True):
            found[free[other]] = number
            free[other] += 1
        return found
