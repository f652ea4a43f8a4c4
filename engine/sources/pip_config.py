"""Package indexes: those that pip or uv is set up to use on this machine."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Final

import trio

from store.errors import HostError

_DEFAULT_INDEX: Final = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
"""pip's own constant, so that no host name stands in bn."""

_SECTIONS: Final = ("global", "download", "install", ":env:")
"""Where an option may stand in what `pip config list` prints; later ones win, as in pip."""

_PIP_SECONDS: Final = 60


async def index_urls(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the addresses of the simple indexes to ask, in order; they may hold credentials.

    pip's configuration (files and PIP_* variables) comes first, then uv's variables, then pip's
    default. Raises HostError where there is neither a configured index nor a pip.
    """
    config = parse_config(await _pip("-m", "pip", "config", "list"))
    first = (
        environment.get("PIP_INDEX_URL")
        or config.get("index-url")
        or environment.get("UV_DEFAULT_INDEX")
        or environment.get("UV_INDEX_URL")
        or (await _pip("-c", _DEFAULT_INDEX)).strip()
    )
    more = environment.get("PIP_EXTRA_INDEX_URL") or config.get("extra-index-url", "")
    uv_more = environment.get("UV_EXTRA_INDEX_URL", "")
    urls = tuple(dict.fromkeys([*first.split(), *more.split(), *uv_more.split()]))
    if not urls:
        raise HostError(
            "no package index is known: pip is not installed here and none is configured",
            "set PIP_INDEX_URL to the address of a simple index, or install pip",
        )
    return urls


def parse_config(listing: str) -> dict[str, str]:
    """Return the options in what `pip config list` printed, by name without section."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        name, equals, value = line.partition("=")
        section, _, option = name.partition(".")
        if equals and section in found:
            try:
                found[section][option.lstrip(".")] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                continue
    return {name: value for section in _SECTIONS for name, value in found[section].items()}


async def _pip(*arguments: str) -> str:
    """Return what the first Python that has pip prints, or nothing."""
    for python in _pythons():
        with trio.move_on_after(_PIP_SECONDS):
            try:
                done = await trio.run_process(
                    [python, "-I", *arguments],
                    capture_stdout=True,
                    stderr=subprocess.DEVNULL,
                    check=False,
                )
            except OSError:
                continue
            if done.returncode == 0:
                return done.stdout.decode("utf-8", "replace")
    return ""


def _pythons() -> Iterator[str]:
    """Yield the interpreters whose pip is the user's: ours, what it was made from, the system's."""
    base = getattr(sys, "_base_executable", None)
    yield from dict.fromkeys(p for p in (sys.executable, base, shutil.which("python3")) if p)
