"""Source distributions of Python packages, fetched from the indexes that pip uses."""

from __future__ import annotations

import difflib
import re
from typing import Final

from attrs import field, frozen

from engine.sources.http import Download, NotFoundError, Progress, Web, shown
from engine.sources.pip_config import index_urls
from engine.sources.simple_index import (
    ACCEPT,
    Candidate,
    candidates,
    project_url,
    sdists,
    version_of,
)
from store.errors import HostError, InputError

_REQUIREMENT: Final = re.compile(
    r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*==\s*([A-Za-z0-9!+._-]+)\s*"
)


@frozen
class _Found:
    """What the indexes say about a project."""

    sdists: list[Candidate] = field(factory=list)
    others: list[Candidate] = field(factory=list)
    failures: list[HostError] = field(factory=list)
    asked: list[str] = field(factory=list)


def parse(requirement: str) -> tuple[str, str]:
    """Return name and version of `NAME==VERSION`; raises InputError for another form."""
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise InputError(
            f"{requirement!r} is not of the form NAME==VERSION",
            'one exact version, as pypi = "Brotli==1.1.0"',
        )
    return match[1], match[2]


async def fetch(
    web: Web, requirement: str, sha256: str | None, target: str, progress: Progress | None = None
) -> Download:
    """Fetch the source distribution of `NAME==VERSION` into the new file `target`.

    The first index that has the version is used, but where indexes announce digests, one that
    announces `sha256` is preferred. Raises InputError where no index has it, HostError where one
    that might have it does not answer.
    """
    name, version = parse(requirement)
    found = await _ask(web, name, version, sha256)
    if not found.sdists:
        raise _missing(name, version, found)
    announced = [c for c in found.sdists if sha256 is not None and c.sha256 == sha256]
    silent = [c for c in found.sdists if c.sha256 is None]
    for candidate in dict.fromkeys([*announced, *silent, *found.sdists]):
        try:
            return await web.download(candidate.url, target, progress)
        except NotFoundError as error:
            found.failures.append(HostError(error.message, "the index names a file it lacks"))
    raise found.failures[-1]


async def _ask(web: Web, name: str, version: str, sha256: str | None) -> _Found:
    found = _Found()
    for index in await index_urls():
        url = project_url(index, name)
        found.asked.append(shown(index))
        try:
            files = candidates(await web.page(url, ACCEPT), index)
        except NotFoundError:
            continue
        except HostError as error:
            # As pip does: another index may have it. If none has, this is what is reported.
            found.failures.append(error)
            continue
        found.others.extend(files)
        here = sdists(files, name, version)
        found.sdists.extend(here)
        if any(sha256 in (None, c.sha256) or c.sha256 is None for c in here):
            break
    return found


def _missing(name: str, version: str, found: _Found) -> HostError | InputError:
    if found.failures:
        return found.failures[0]
    if not found.others:
        return InputError(
            f"no package {name!r} on the indexes that pip uses", f"asked: {', '.join(found.asked)}"
        )
    known = [version_of(candidate.name, name) for candidate in found.others]
    versions = list(dict.fromkeys(v for v in known if v is not None))
    if version in versions:
        return InputError(
            f"{name} {version} has no source distribution, only built ones",
            "fetch its sources with url = … instead",
        )
    near = difflib.get_close_matches(version, versions, n=4, cutoff=0.3) or versions[-4:]
    return InputError(f"{name} has no version {version}", f"there are: {', '.join(near)}")
