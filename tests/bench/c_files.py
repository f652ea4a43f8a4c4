"""A generated C program of many files: each is compiled, with depfiles where a tool takes them,
and all are linked."""

from __future__ import annotations

import random
from typing import Final

from tests.bench.model import Action, Edit, Rule, Workload

COMPILE: Final = "gcc -O1 -I{include}{md} -c {in} -o {out}"
LINK: Final = "gcc -s -Wl,--build-id=none {in} -o {out}"
TOOLCHAIN: Final = '[toolchain]\ndebian = ["gcc", "libc6-dev", "dash", "coreutils"]\n'

SPEC: Final = """[package]
name = "{name}"
version = "1"
default = ["program"]
[sources.src]
path = "src"
[sources.include]
path = "include"
[toolchains]
cc = "cc.toml"
[actions.object]
foreach = "src:*.c"
tools = ["cc"]
inputs = ["{{item}}", "include"]
run = ["gcc", "-O1", "-Iinclude", "-MD", "-MF", "{{depfile}}", "-c", "{{item}}", "-o", "{{out}}/{{item.stem}}.o"]
outputs = ["{{item.stem}}.o"]
depfile = true
[actions.program]
tools = ["cc"]
inputs = ["object"]
script = "gcc -s -Wl,--build-id=none object/*.o -o $out/program"
outputs = ["program"]
"""  # noqa: E501


def c_files(
    files: int, headers: int = 0, functions: int = 12, seed: int = 0, name: str = "W4c"
) -> Workload:
    """Return a program of `files` files with `functions` functions each, which include up to four
    of `headers` headers (0: one for ten files)."""
    rng = random.Random(seed)
    headers = headers or max(1, files // 10)
    stems = [f"f{number:05}" for number in range(files)]
    sources: dict[str, bytes] = {
        f"include/h{number:04}.h": _header(number).encode() for number in range(headers)
    }
    for number, stem in enumerate(stems):
        used = sorted(rng.sample(range(headers), min(4, headers)))
        sources[f"src/{stem}.c"] = _file(number, used, functions).encode()
    sources["src/main.c"] = _main(files).encode()
    names = [*stems, "main"]
    rule = Rule(
        name="object", script=COMPILE, common=tuple(path for path in sources if path[0] == "i")
    )
    objects = tuple(f"object/{stem}.o" for stem in names)
    paths = tuple(f"src/{stem}.c" for stem in stems)
    link = Rule(name="program", script=LINK)
    return Workload(
        name=name,
        title=f"generated C: {files + 1:,} files, {headers} headers, one program",
        sources=sources,
        actions=(
            *(
                Action(rule=rule, inputs=(f"src/{stem}.c",), output=output)
                for stem, output in zip(names, objects, strict=True)
            ),
            Action(rule=link, inputs=objects, output="program/program", glob="object/*.o"),
        ),
        ends=("program/program",),
        spec={"spec.toml": SPEC.format(name=name.lower()), "cc.toml": TOOLCHAIN},
        edits={
            "leaf": Edit(paths=paths, line=0, text="#define SEED {n}"),
            "comment": Edit(paths=paths, line=-1, text="/* {n} */"),
        },
    )


def _header(number: int) -> str:
    return (
        f"#ifndef H{number}\n#define H{number}\n"
        f"static inline int h{number}(int x) {{ return x * {number + 3} + 1; }}\n#endif\n"
    )


def _file(number: int, headers: list[int], functions: int) -> str:
    includes = "".join(f'#include "h{one:04}.h"\n' for one in headers)
    calls = "".join(f"        s += h{one}(i ^ s);\n" for one in headers)
    bodies = "".join(
        f"static int g{one}(int n, int *a)\n{{\n    int s = SEED + {one};\n"
        f"    for (int i = 0; i < n; i++) {{\n{calls}        a[i & 15] ^= s;\n    }}\n"
        f"    return s;\n}}\n"
        for one in range(functions)
    )
    sums = " + ".join(f"g{one}(n, a)" for one in range(functions)) or "SEED"
    return (
        f"#define SEED {number}\n{includes}{bodies}"
        f"int f{number:05}(int n)\n{{\n    int a[16] = {{0}};\n    return {sums};\n}}\n/* end */\n"
    )


def _main(files: int) -> str:
    declared = "".join(f"int f{number:05}(int);\n" for number in range(files))
    called = "".join(f"    s += f{number:05}(c);\n" for number in range(files))
    return (
        f"{declared}int main(int c, char **v)\n{{\n    int s = 0;\n{called}    return s & 1;\n}}\n"
    )
