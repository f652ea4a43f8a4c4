"""The compiler of TypeScript: one version, fetched once by npm, checked, and kept beside results.

npm knows its registry; bn names only the package, the version and the digest that npm itself checks
packages by. What does not match is not unpacked.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from attrs import frozen

VERSION: Final = "5.9.3"
INTEGRITY: Final = (
    "sha512-"
    "jl1vZzPDinLr9eUt3J/t7V6FgNEw9QjvBPdysz9KfQDD41fQrC2Y4vKQdiaUpFT4bXlb1RHhLpp8wtm6M5TgSw=="
)
"""SHA-512 of the package, as lock files of npm write it."""

FETCH_SECONDS: Final = 120


@frozen
class Compiler:
    """node and the compiler's script, and the version of node."""

    node: str
    script: Path
    node_version: str


@frozen
class Missing:
    """Why there is no compiler."""

    why: str


def find_compiler(kept: Path, fetch: bool = True) -> Compiler | Missing:
    """Return the compiler kept in a directory, fetched by npm if it is not there yet."""
    node = shutil.which("node")
    if node is None:
        return Missing("node is not installed")
    version = _said([node, "--version"])
    if version is None:
        return Missing("node does not run")
    script = kept / f"typescript-{VERSION}" / "lib/tsc.js"
    if not script.exists():
        if not fetch:
            return Missing(f"typescript {VERSION} was not fetched yet")
        why = _fetch(kept)
        if why:
            return Missing(why)
    return Compiler(node, script, version)


def _said(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _fetch(kept: Path) -> str:
    """Fetch the compiler into a directory; return what went wrong, or nothing."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            command = [npm, "pack", f"typescript@{VERSION}", "--ignore-scripts", "--silent"]
            subprocess.run(
                command, cwd=scratch, capture_output=True, timeout=FETCH_SECONDS, check=True
            )
            (package,) = Path(scratch).glob("*.tgz")
            return unpack(package, kept / f"typescript-{VERSION}")
    except subprocess.TimeoutExpired:
        return f"npm did not fetch typescript within {FETCH_SECONDS} s"
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip().splitlines()
        return f"npm could not fetch typescript {VERSION}: {told[-1] if told else 'no reason told'}"
    except (OSError, ValueError, tarfile.TarError) as error:
        return f"typescript {VERSION} could not be unpacked: {error}"


def unpack(package: Path, target: Path, integrity: str = INTEGRITY) -> str:
    """Unpack the files of `package/lib` of a checked package to `target`/lib; return what is wrong
    with it, or nothing. Raises OSError and TarError."""
    with open(package, "rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != integrity:
        return "what npm fetched is not the package that was expected (its SHA-512 differs)"
    scratch = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        (scratch / "lib").mkdir()
        with tarfile.open(package) as archive:
            for member in archive:
                place, _, name = member.name.rpartition("/")
                content = archive.extractfile(member) if place == "package/lib" else None
                if member.isfile() and content and name.endswith((".js", ".d.ts")):
                    (scratch / "lib" / name).write_bytes(content.read())
        os.replace(scratch, target)
    except OSError:
        if not (target / "lib/tsc.js").exists():  # else somebody else was quicker
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ""
