"""`bn init`: a first spec for the C project in a directory."""

from __future__ import annotations

import re
from pathlib import Path

import click
from attrs import frozen

from engine.cli.options import SPEC_NAME, json_option, note, print_json
from store.errors import OK, InputError

SKIPPED = {".git", ".hg", ".svn", "build", "node_modules", ".venv", "result"}
TEST_DIRECTORIES = {"test", "tests", "example", "examples", "contrib", "doc", "docs"}
MAIN = re.compile(r"^\s*(?:int|void)\s+main\s*\(", re.MULTILINE)

TOOLCHAIN = """\
# The C compiler of this machine, with all that it depends on; imported as a tree.
[toolchain]
debian = ["gcc", "libc6-dev", "dash", "coreutils"]
"""


@frozen
class Found:
    """What a directory holds: C files with and without a main function, include directories."""

    library: tuple[str, ...]
    programs: tuple[str, ...]
    includes: tuple[str, ...]


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".")
@click.option("--force", is_flag=True, help="Write over a spec that is there.")
@json_option
def command(directory: Path, force: bool, as_json: bool) -> int:
    """Write spec.toml and cc.toml for the C files below DIRECTORY, and say the next step."""
    spec, toolchain = directory / SPEC_NAME, directory / "cc.toml"
    if spec.exists() and not force:
        raise InputError(f"{spec}: is there already", "write over it with --force")
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory")
    found = look(directory)
    if not found.library and not found.programs:
        hint = "bn init writes a spec for C; for others copy one from specs/"
        raise InputError(f"{directory}: there are no .c files below it", hint)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", directory.resolve().name).strip("-") or "project"
    spec.write_text(spec_text(name, found))
    written = [str(spec)]
    if force or not toolchain.exists():
        toolchain.write_text(TOOLCHAIN)
        written.append(str(toolchain))
    step = "bn build" if directory == Path() else f"bn build {spec}"
    if as_json:
        print_json({"written": written, "next": step})
    note(f"wrote {' and '.join(written)}; next: {step}")
    return OK


def look(directory: Path) -> Found:
    """Return what is below `directory`, with paths relative to it, sorted."""
    sources: list[Path] = []
    headers: list[Path] = []
    for path in sorted(directory.rglob("*.[ch]")):
        relative = path.relative_to(directory)
        if not SKIPPED & set(relative.parts):
            (sources if path.suffix == ".c" else headers).append(relative)
    programs: list[str] = []
    library: list[str] = []
    for path in sources:
        if TEST_DIRECTORIES & set(path.parts[:-1]):
            continue
        has_main = MAIN.search((directory / path).read_text(errors="replace"))
        (programs if has_main else library).append(path.as_posix())
    includes = sorted({path.parent.as_posix() for path in headers})
    return Found(tuple(library), tuple(programs), tuple(includes))


def spec_text(name: str, found: Found) -> str:
    """Return the text of a spec that compiles each file by itself and links each program."""
    flags = ["-Isrc" if path == "." else f"-Isrc/{path}" for path in found.includes]
    shown = "".join(f'"{flag}", ' for flag in flags)
    artifacts = [_artifact(path, name, found) for path in found.programs] or ["objects"]
    defaults = ", ".join(f'"{artifact}"' for artifact in artifacts)
    headers = ', "src:**/*.h"' if found.includes else ""
    every = sorted([*found.library, *found.programs])
    files = ",\n    ".join(f'"src:{path}"' for path in every)
    text = f"""\
# The build of {name}. Reference: bn schema, and the specs that come with bn.
[package]
name = "{name}"
default = [{defaults}]

[params]
opt = 2                        # bn build --set opt=3

[sources.src]
path = "."
exclude = ["{SPEC_NAME}", "cc.toml"]

[toolchains]
cc = "cc.toml"

# One action for each C file; its depfile tells which headers it really read.
[actions.objects]
foreach = [
    {files},
]
tools = ["cc"]
inputs = ["{{item}}"{headers}]
run = [
    "gcc", "-O{{opt}}", "-MD", "-MF", "{{depfile}}", {shown}
    "-c", "{{item}}", "-o", "{{out}}/{{item}}.o",
]
outputs = ["{{item}}.o"]
depfile = true
"""
    objects = " ".join(f"objects/src/{path}.o" for path in found.library)
    for path, artifact in zip(found.programs, artifacts, strict=False):
        text += f"""
[actions.{artifact}]
tools = ["cc"]
inputs = ["objects"]
script = "gcc objects/src/{path}.o {objects} -lm -o $out/bin/{artifact}"
outputs = ["bin/{artifact}"]
"""
    return text


def _artifact(path: str, name: str, found: Found) -> str:
    """Return the name of the program whose main function is in `path`."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(path).stem)
    return name if stem == "main" or len(found.programs) == 1 else stem
