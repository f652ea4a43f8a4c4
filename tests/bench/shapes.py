"""The workloads of plain commands: wide, a chain, layers, one large file, many files in one action.

Each takes the size and what else makes its shape. The commands read what they are given only up to
line `KEPT` of each file, in the manner of cat and at its price; what a source says below that is
the comment, which alters no output.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.model import PHASES, Action, Bulk, Edit, Rule, Workload

KEPT: Final = 20
FIRST: Final = KEPT
"""Lines that a source has before its comment."""

INGEST: Final = Path(__file__).with_name("ingest.py")
"""The program that does what bn does with sources, alone."""

SHELL: Final = '[toolchain]\ndebian = ["dash", "coreutils"]\n'
FEW: Final = 10_000
"""Most files that one cat is given; more of them go through xargs."""


def source(name: str, lines: int = FIRST) -> bytes:
    """Return a source file: `lines` lines that tell `name`, and a comment."""
    kept = "".join(f"{name} {number}\n" for number in range(lines))
    return (kept + "more\n" * (KEPT - lines) + "comment\n").encode()


def edits(paths: Sequence[str]) -> Mapping[str, Edit]:
    """Return the changes to files that `source` made."""
    return {
        "leaf": Edit(paths=tuple(paths), line=0, text="changed {n}"),
        "comment": Edit(paths=tuple(paths), line=-1, text="comment {n}"),
    }


def head(package: str, default: Sequence[str], tools: Mapping[str, str]) -> str:
    """Return the beginning of a spec whose sources are in src."""
    names = ", ".join(f'"{name}"' for name in default)
    files = "".join(f'{name} = "{path}"\n' for name, path in tools.items())
    return (
        f'[package]\nname = "{package}"\nversion = "1"\ndefault = [{names}]\n'
        f'[sources.src]\npath = "src"\n[toolchains]\n{files}'
    )


def gathering(files: int) -> str:
    """Return the script that concatenates so many files."""
    if files <= FEW:
        return "cat {in} > {out}"
    return "printf '%s ' {in} | xargs cat > {out}"


def step(name: str, inputs: Sequence[str], script: str, output: str) -> str:
    """Return one action of a spec."""
    listed = ", ".join(f'"{one}"' for one in inputs)
    return (
        f'[actions.{name}]\ntools = ["sh"]\ninputs = [{listed}]\n'
        f'script = "{script}"\noutputs = ["{output}"]\n'
    )


def wide(
    width: int,
    name: str = "W1",
    every: bool = False,
    phases: Sequence[str] = (),
    cold_once: bool = False,
) -> Workload:
    """Return `width` actions that have nothing to do with each other, and a concatenation.

    With `every`, bn shows all outputs as its result and not the last one alone.
    """
    digits = max(5, len(str(width)))
    stems = [f"f{number:0{digits}}" for number in range(width)]
    paths = [f"src/{stem}.txt" for stem in stems]
    command = f"head -q -n {KEPT} {{src/common.h}} {{in}} > {{out}}"
    leaf = Rule(name="leaf", script=command, common=("src/common.h",))
    gather = gathering(width)
    last = Rule(name="all", script=gather)
    made = tuple(f"leaf/{stem}.o" for stem in stems)
    default = ("leaf", "all") if every else ("all",)
    spec = head(name.lower(), default, {"sh": "sh.toml"}) + (
        '[actions.leaf]\nforeach = "src:*.txt"\ntools = ["sh"]\n'
        'inputs = ["{item}", "src:common.h"]\n'
        f'script = "head -q -n {KEPT} src/common.h {{item}} > $out/{{item.stem}}.o"\n'
        'outputs = ["{item.stem}.o"]\n'
    )
    shell = gather.replace("{in}", "leaf/*.o").replace("{out}", "$out/all")
    spec += step("all", ["leaf"], shell, "all")
    tools = SHELL if width <= FEW else SHELL.replace('"dash"', '"dash", "findutils"')
    return Workload(
        name=name,
        title=f"wide: {width:,} independent actions and a concatenation",
        sources={
            "src/common.h": source("common"),
            **{path: source(stem) for path, stem in zip(paths, stems, strict=True)},
        },
        actions=(
            *(
                Action(rule=leaf, inputs=(path,), output=output)
                for path, output in zip(paths, made, strict=True)
            ),
            Action(rule=last, inputs=made, output="all/all", glob="leaf/*.o"),
        ),
        ends=("all/all",),
        spec={"spec.toml": spec, "sh.toml": tools},
        edits=edits(paths),
        phases=tuple(phases) or PHASES,
        cold_once=cold_once,
    )


def chain(length: int, name: str = "W2") -> Workload:
    """Return actions that each need the one before and a source; the first source changes all."""
    digits = max(4, len(str(length)))
    stems = [f"c{number:0{digits}}" for number in range(length)]
    command = f"head -q -n {KEPT} {{in}} > {{out}}"
    link = Rule(name="link", script=command)
    actions, spec = [], head(name.lower(), (stems[-1],), {"sh": "sh.toml"})
    for number, stem in enumerate(stems):
        before = (f"{stems[number - 1]}/o",) if number else ()
        inputs = (*before, f"src/{stem}.txt")
        actions.append(Action(rule=link, inputs=inputs, output=f"{stem}/o"))
        selected = [*(path.partition("/")[0] for path in before), f"src:{stem}.txt"]
        script = f"head -q -n {KEPT} {' '.join(inputs)} > $out/o"
        spec += step(stem, selected, script, "o")
    return Workload(
        name=name,
        title=f"chain: {length:,} actions, each on the one before",
        sources={f"src/{stem}.txt": source(stem) for stem in stems},
        actions=tuple(actions),
        ends=(f"{stems[-1]}/o",),
        spec={"spec.toml": spec, "sh.toml": SHELL},
        edits=edits([f"src/{stems[0]}.txt"]),
    )


def layers(depth: int, width: int, fan: int = 3, seed: int = 0, name: str = "W3") -> Workload:
    """Return `depth` layers of `width` actions, each on `fan` of the layer before, and one end.

    What a source says in its first lines reaches everything above it.
    """
    rng = random.Random(seed)
    digits = max(3, len(str(width)))
    stems = [
        [f"l{layer:02}-{number:0{digits}}" for number in range(width)] for layer in range(depth)
    ]
    command = "head -q -n 2 {src/common.h} {in} > {out}"
    leaf = Rule(name="leaf", script=command, common=("src/common.h",))
    join = Rule(name="join", script="sort -u {in} > {out}")
    last = Rule(name="all", script="cat {in} > {out}")
    actions, spec = [], head(name.lower(), ("all",), {"sh": "sh.toml"})
    for layer, row in enumerate(stems):
        for number, stem in enumerate(row):
            if layer:
                chosen = {number, *rng.sample(range(width), min(fan, width))}
                needed = [stems[layer - 1][one] for one in sorted(chosen)][:fan]
                inputs = tuple(f"{one}/o" for one in needed)
                script = f"sort -u {' '.join(inputs)} > $out/o"
                actions.append(Action(rule=join, inputs=inputs, output=f"{stem}/o"))
                spec += step(stem, needed, script, "o")
            else:
                inputs = (f"src/{stem}.txt",)
                actions.append(Action(rule=leaf, inputs=inputs, output=f"{stem}/o"))
                script = f"head -q -n 2 src/common.h src/{stem}.txt > $out/o"
                spec += step(stem, ["src:common.h", f"src:{stem}.txt"], script, "o")
    top = tuple(f"{stem}/o" for stem in stems[-1])
    glob = f"l{depth - 1:02}-*/o"
    actions.append(Action(rule=last, inputs=top, output="all/all", glob=glob))
    spec += step("all", stems[-1], f"cat {glob} > $out/all", "all")
    sources = [f"src/{stem}.txt" for stem in stems[0]]
    return Workload(
        name=name,
        title=f"layers: {depth} × {width:,} actions, each on {fan} of the layer before, and an end",
        sources={
            "src/common.h": source("common", 2),
            **{path: source(path[4:-4], 2) for path in sources},
        },
        actions=tuple(actions),
        ends=("all/all",),
        spec={"spec.toml": spec, "sh.toml": SHELL},
        edits=edits(sources),
    )


def large(size: int, seed: int = 0, name: str = "W6") -> Workload:
    """Return one action that copies a file of `size` bytes of random data."""
    copy = Rule(name="copy", script="cat {in} > {out}")
    spec = head(name.lower(), ("copy",), {"sh": "sh.toml"})
    spec += step("copy", ["src:big"], "cat src/big > $out/big", "big")
    return Workload(
        name=name,
        title=f"one file of {size / 2**20:,.0f} MiB, copied by an action",
        sources={"src/big": Bulk(size, seed)},
        actions=(Action(rule=copy, inputs=("src/big",), output="copy/big"),),
        ends=("copy/big",),
        spec={"spec.toml": spec, "sh.toml": SHELL},
        phases=("cold", "noop", "clean"),
        raw={
            "cp": "cp src/big made/big",
            "b3sum": "b3sum src/big",
            "bn's ingest": f"{sys.executable} -I {INGEST} src made/store",
            "sha256sum": "sha256sum src/big",
        },
    )


def many(files: int, name: str = "W7", in_directory: int = 500) -> Workload:
    """Return one action with `files` input files, `in_directory` of them in each directory."""
    gather = gathering(files)
    paths = [f"src/d{n // in_directory:04}/f{n:06}.txt" for n in range(files)]
    last = Rule(name="all", script=gather)
    spec = head(name.lower(), ("all",), {"sh": "sh.toml"})
    shell = gather.replace("{in}", "src/*/*").replace("{out}", "$out/all")
    spec += step("all", ["src"], shell, "all")
    tools = SHELL if files <= FEW else SHELL.replace('"dash"', '"dash", "findutils"')
    return Workload(
        name=name,
        title=f"{files:,} input files in one action",
        sources={path: f"first {n}\nfile {n}\n".encode() for n, path in enumerate(paths)},
        actions=(Action(rule=last, inputs=tuple(paths), output="all/all", glob="src/*/*"),),
        ends=("all/all",),
        spec={"spec.toml": spec, "sh.toml": tools},
        edits={"leaf": edits(paths)["leaf"]},
        phases=("cold", "noop", "leaf", "clean"),
        raw={
            "cp -r": "cp -r src made/src",
            "bn's ingest": f"{sys.executable} -I {INGEST} src made/store",
        },
    )
