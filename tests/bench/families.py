"""Families of made-up graphs: the shapes of numeric codes, of builds, and such as were made against
list scheduling.

Every graph has a name that says how it was made: family, number of steps, spread of durations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from engine.placement.work import Work, make_work

Needs: TypeAlias = dict[str, list[str]]
"""What each step needs, by name."""

Draw: TypeAlias = Callable[[random.Random], float]


def _equal(dice: random.Random) -> float:
    return 1.0


def _uniform(dice: random.Random) -> float:
    return dice.uniform(0.5, 2.0)


def _lognormal(dice: random.Random) -> float:
    return dice.lognormvariate(1.0, 1.0)


def _heavy(dice: random.Random) -> float:
    return min(dice.paretovariate(1.1), 1e4)


def _two(dice: random.Random) -> float:
    return 30.0 if dice.random() < 0.1 else 1.0


SPREADS: Final[Mapping[str, Draw]] = {
    "equal": _equal,
    "uniform": _uniform,
    "lognormal": _lognormal,
    "heavy-tailed": _heavy,
    "two kinds": _two,
}
"""How long steps take: all the same, 0.5–2 s, lognormal, Pareto with exponent 1.1, one in ten 30×
the others."""


def fork_join(size: int, dice: random.Random) -> Needs:
    """Return stages in which some steps run side by side between one and the next."""
    needs: Needs = {"s0": []}
    last = "s0"
    while len(needs) < size:
        wide = [f"s{len(needs) + n}" for n in range(dice.randint(2, max(2, size // 4)))]
        needs |= {name: [last] for name in wide}
        last = f"s{len(needs)}"
        needs[last] = wide
    return needs


def layered(size: int, dice: random.Random) -> Needs:
    """Return layers of different widths; each step needs some of the layer before."""
    needs: Needs = {}
    before: list[str] = []
    mean = max(2, round(size ** dice.choice([0.3, 0.5, 0.7])))
    while len(needs) < size:
        layer = [f"s{len(needs) + n}" for n in range(dice.randint(1, 2 * mean))]
        for name in layer:
            needs[name] = dice.sample(before, min(len(before), dice.randint(1, 4)))
        before = layer
    return needs


def random_graph(size: int, dice: random.Random) -> Needs:
    """Return a graph in which each pair is joined with the same probability."""
    share = dice.choice([1.0, 2.0, 4.0]) / size
    return {f"s{n}": [f"s{m}" for m in range(n) if dice.random() < share] for n in range(size)}


def out_tree(size: int, dice: random.Random) -> Needs:
    """Return a tree that spreads from one step."""
    wide = dice.randint(2, 5)
    return {
        f"s{n}": [f"s{max(0, n - dice.randint(1, wide * 3))}"] if n else [] for n in range(size)
    }


def in_tree(size: int, dice: random.Random) -> Needs:
    """Return a tree that comes together in one step, as the link of a program does."""
    wide = dice.randint(2, 8)
    needs: Needs = {f"s{n}": [] for n in range(size)}
    for n in range(size - 1):
        needs[f"s{min(size - 1, (size + n * (wide - 1)) // wide + 1 if n else n + 1)}"].append(
            f"s{n}"
        )
    return _acyclic(needs)


def _acyclic(needs: Needs) -> Needs:
    """Return the graph without arrows that lead back in its order."""
    places = {name: place for place, name in enumerate(needs)}
    return {
        name: [one for one in below if places[one] < places[name]] for name, below in needs.items()
    }


def cholesky(size: int, dice: random.Random) -> Needs:
    """Return the tiled Cholesky decomposition of a matrix (POTRF, TRSM, SYRK, GEMM)."""
    tiles = _tiles(size, 6)
    last: dict[tuple[int, int], str] = {}
    needs: Needs = {}

    def add(name: str, tile: tuple[int, int], *reads: tuple[int, int]) -> None:
        needs[name] = list(dict.fromkeys(last[one] for one in (tile, *reads) if one in last))
        last[tile] = name

    for k in range(tiles):
        add(f"potrf_{k}", (k, k))
        for i in range(k + 1, tiles):
            add(f"trsm_{i}_{k}", (i, k), (k, k))
        for i in range(k + 1, tiles):
            for j in range(k + 1, i + 1):
                add(f"gemm_{i}_{j}_{k}", (i, j), (i, k), (j, k))
    return needs


def lu(size: int, dice: random.Random) -> Needs:
    """Return the tiled LU decomposition of a matrix."""
    tiles = _tiles(size, 3)
    last: dict[tuple[int, int], str] = {}
    needs: Needs = {}

    def add(name: str, tile: tuple[int, int], *reads: tuple[int, int]) -> None:
        needs[name] = list(dict.fromkeys(last[one] for one in (tile, *reads) if one in last))
        last[tile] = name

    for k in range(tiles):
        add(f"getrf_{k}", (k, k))
        for i in range(k + 1, tiles):
            add(f"row_{k}_{i}", (k, i), (k, k))
            add(f"column_{i}_{k}", (i, k), (k, k))
        for i in range(k + 1, tiles):
            for j in range(k + 1, tiles):
                add(f"gemm_{i}_{j}_{k}", (i, j), (i, k), (k, j))
    return needs


def _tiles(size: int, share: int) -> int:
    return max(2, round(math.cbrt(share * size)))


def fft(size: int, dice: random.Random) -> Needs:
    """Return the butterflies of a fast Fourier transform."""
    points = 2
    while points * 2 * (points * 2).bit_length() <= size:
        points *= 2
    needs: Needs = {f"b0_{n}": [] for n in range(points)}
    for level in range(1, points.bit_length()):
        step = 1 << (level - 1)
        for n in range(points):
            needs[f"b{level}_{n}"] = [f"b{level - 1}_{n}", f"b{level - 1}_{n ^ step}"]
    return needs


def gauss(size: int, dice: random.Random) -> Needs:
    """Return Gaussian elimination by columns."""
    columns = max(2, int((2 * size) ** 0.5))
    needs: Needs = {}
    for k in range(columns - 1):
        needs[f"pivot_{k}"] = [f"update_{k - 1}_{k}"] if k else []
        for j in range(k + 1, columns):
            needs[f"update_{k}_{j}"] = [f"pivot_{k}"] + ([f"update_{k - 1}_{j}"] if k else [])
    return needs


def stencil(size: int, dice: random.Random) -> Needs:
    """Return the time steps of a grid in one dimension: each cell needs its neighbours."""
    width = max(2, round(size ** dice.choice([0.4, 0.5, 0.6])))
    needs: Needs = {}
    for time in range(max(1, size // width)):
        for cell in range(width):
            around = (cell - 1, cell, cell + 1) if time else ()
            needs[f"t{time}_{cell}"] = [f"t{time - 1}_{n}" for n in around if 0 <= n < width]
    return needs


def series_parallel(size: int, dice: random.Random) -> Needs:
    """Return a graph put together from smaller ones, one after another or side by side."""
    needs: Needs = {}

    def grow(left: int, entry: list[str]) -> list[str]:
        if left <= 2:
            name = f"s{len(needs)}"
            needs[name] = entry
            return [name]
        if dice.random() < 0.5:
            part = dice.randint(1, left - 1)
            return grow(left - part, grow(part, entry))
        parts = dice.randint(2, min(8, left))
        ends = [one for _ in range(parts) for one in grow(left // parts, entry)]
        name = f"s{len(needs)}"
        needs[name] = ends
        return [name]

    grow(size, [])
    return needs


def chains(size: int, dice: random.Random) -> Needs:
    """Return chains of different lengths side by side."""
    count = max(2, round(size ** dice.choice([0.3, 0.5, 0.7])))
    tops: list[str] = []
    needs: Needs = {}
    for n in range(size):
        name = f"s{n}"
        if len(tops) < count:
            needs[name] = []
            tops.append(name)
        else:
            chosen = dice.randrange(dice.randint(1, count))
            needs[name] = [tops[chosen]]
            tops[chosen] = name
    return needs


def program(size: int, dice: random.Random) -> Needs:
    """Return a build: libraries of compilations, programs on libraries, tests on programs."""
    needs: Needs = {}
    libraries: list[str] = []
    while len(needs) < size:
        number = len(libraries)
        headers = f"generate_{number}"
        needs[headers] = dice.sample(libraries, min(len(libraries), dice.randint(0, 1)))
        objects = [f"compile_{number}_{n}" for n in range(dice.randint(1, max(2, size // 6)))]
        needs |= {one: [headers] for one in objects}
        name = f"archive_{number}"
        needs[name] = objects
        under = dice.sample(libraries, min(len(libraries), dice.randint(0, 3)))
        needs[f"link_{number}"] = [name, *under]
        needs |= {f"test_{number}_{n}": [f"link_{number}"] for n in range(dice.randint(0, 4))}
        libraries.append(name)
    return needs


def independent(size: int, dice: random.Random) -> Needs:
    """Return steps that need nothing."""
    return {f"s{n}": [] for n in range(size)}


FAMILIES: Final[Mapping[str, Callable[[int, random.Random], Needs]]] = {
    "fork and join": fork_join,
    "layers": layered,
    "random": random_graph,
    "out-tree": out_tree,
    "in-tree": in_tree,
    "Cholesky": cholesky,
    "LU": lu,
    "FFT": fft,
    "Gauss": gauss,
    "stencil": stencil,
    "series and parallel": series_parallel,
    "chains": chains,
    "program": program,
    "independent": independent,
}


def trap(size: int, dice: random.Random) -> Work:
    """Return a graph made against ranks: many short chains that look as urgent as the one step on
    whose result everything else waits."""
    long = dice.uniform(5, 20)
    seconds = {"gate": long / 10}
    needs: Needs = {"gate": []}
    for n in range(size // 2):
        seconds[f"after_{n}"] = long * dice.uniform(0.8, 1.0)
        needs[f"after_{n}"] = ["gate"]
    n = 0
    while len(seconds) < size:
        seconds[f"a_{n}"], seconds[f"b_{n}"] = long * 0.6, long * 0.6
        needs[f"b_{n}"] = [f"a_{n}"]
        n += 1
    return make_work(seconds, needs)


def dead_ends(size: int, dice: random.Random) -> Work:
    """Return a graph made against greed (Graham's anomaly): a long last step behind short ones, of
    which some look longer than they are worth."""
    seconds = {f"s{n}": dice.choice([1.0, 1.01, 2.0, 2.99, 3.0]) for n in range(size)}
    names = list(seconds)
    needs = {names[n]: [names[n - 1 - n % 3]] for n in range(3, size) if n % 3 == 0}
    seconds["last"] = size / 8
    needs["last"] = names[: max(1, size // 3)]
    return make_work(seconds, needs)


TRAPS: Final[Mapping[str, Callable[[int, random.Random], Work]]] = {
    "trap": trap,
    "dead ends": dead_ends,
}

SIZES: Final = (5, 8, 12, 20, 40, 80, 150, 300, 600, 1000, 2000)


def families(count: int, seed: int, largest: int = 2000) -> Iterator[tuple[str, Work]]:
    """Yield graphs of all families in turn, of all sizes up to `largest`, with all spreads."""
    sizes = [size for size in SIZES if size <= largest]
    shapes = [*FAMILIES, *TRAPS]
    for number in range(count):
        dice = random.Random(f"{seed}/{number}")
        family = shapes[number % len(shapes)]
        size = sizes[number // len(shapes) % len(sizes)] if number < 200 else dice.choice(sizes)
        if family in TRAPS:
            yield f"{family} {size}", TRAPS[family](size, dice)
            continue
        needs = FAMILIES[family](size, dice)
        spread = dice.choice(list(SPREADS))
        seconds = _durations(needs, SPREADS[spread], dice)
        yield f"{family} {len(needs)} {spread}", make_work(seconds, needs)


def _durations(needs: Needs, draw: Draw, dice: random.Random) -> dict[str, float]:
    """Return durations: of each step by itself, or alike in steps of one kind (half the times)."""
    if dice.random() < 0.5:
        return {name: draw(dice) for name in needs}
    kinds = {name: name.partition("_")[0] for name in needs}
    if len(set(kinds.values())) > len(needs) // 2:
        return {name: draw(dice) for name in needs}
    typical = {kind: draw(dice) for kind in sorted(set(kinds.values()))}
    return {name: typical[kinds[name]] * dice.uniform(0.9, 1.1) for name in needs}
