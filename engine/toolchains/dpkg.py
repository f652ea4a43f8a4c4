"""What dpkg knows of this machine: installed packages, their files, and alternatives."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from attrs import frozen

from store.errors import HostError

Clause: TypeAlias = tuple[str, ...]
"""Names one of which satisfies a dependency, each perhaps with an architecture as `name:any`."""

_FORMAT: Final = (
    "${Package}\t${Architecture}\t${db:Status-Abbrev}\t${Version}\t"
    "${Pre-Depends}\t${Depends}\t${Provides}\n"
)
_INSTALLED: Final = "iWt"
"""Second letters of the status of packages whose files are there: installed, triggers waiting."""

_DIVERTED: Final = re.compile(
    r"(?:diverted by (?P<by>\S+) to|locally diverted to): (?P<to>.+)|package diverts others to: .+"
)


@frozen
class Package:
    """An installed package. `relations` are its dependencies and `offers` what it provides, as dpkg
    prints them (Debian policy 7.1): of hundreds only a few are ever asked for theirs."""

    name: str
    architecture: str
    version: str
    relations: str = ""
    offers: str = ""

    def __str__(self) -> str:
        """Return `name:architecture`, as dpkg takes it."""
        return f"{self.name}:{self.architecture}"

    @property
    def depends(self) -> Iterator[Clause]:
        """What it depends on, without versions."""
        return _clauses(self.relations)

    @property
    def provides(self) -> Iterator[str]:
        """The names that it provides, without versions."""
        return itertools.chain.from_iterable(_clauses(self.offers))


@frozen
class Listed:
    """A path of a package, and where it lies if another package (or `""`, the administrator)
    diverted it."""

    path: str
    diverted_to: str | None = None
    diverted_by: str = ""


@frozen
class Choice:
    """One candidate of an alternative: its path, its priority, its slaves' paths by link."""

    path: str
    priority: int
    slaves: Mapping[str, str]


@frozen
class Alternative:
    """A name that several packages offer, as /usr/bin/cc; `link` is its path."""

    link: str
    choices: tuple[Choice, ...]


def admin_directory() -> str:
    """Return where dpkg keeps its state."""
    return os.environ.get("DPKG_ADMINDIR") or "/var/lib/dpkg"


def installed_packages() -> list[Package]:
    """Return all installed packages. Raises HostError where there is no dpkg."""
    return list(parse_packages(_query("-W", f"-f={_FORMAT}")))


def listed_files(packages: Sequence[Package]) -> list[list[Listed]]:
    """Return the paths of each of `packages`, directories included."""
    if not packages:
        return []
    try:
        return _read_lists(packages)
    except (OSError, ValueError):
        return parse_listings(_query("-L", *map(str, packages)))


def _read_lists(packages: Sequence[Package]) -> list[list[Listed]]:
    """Return what `dpkg-query -L` would tell, from the files that it reads; it reads those of all
    packages, which takes ten times as long. Raises OSError and ValueError where they are not as
    expected: one list a package (dpkg's lib/dpkg/db-fsys-files.c), three lines a diversion: what is
    diverted, to where, by whom, `:` for the administrator (db-fsys-divert.c)."""
    directory = admin_directory()
    if Path(directory, "info", "format").read_text() != "1\n":
        raise ValueError(directory)
    diverted = Path(directory, "diversions").read_text("utf-8", "surrogateescape").split("\n")
    rows = zip(diverted[::3], diverted[1::3], diverted[2::3], strict=False)
    diversions = {path: (to, "" if by == ":" else by) for path, to, by in rows}
    found = []
    for package in packages:
        try:
            text = _list(directory, str(package))
        except FileNotFoundError:
            text = _list(directory, package.name)
        listing = []
        for path in text.split("\n"):
            to, by = diversions.get(path, (None, ""))
            if to is None or by == package.name:
                listing.append(Listed(path))
            else:
                listing.append(Listed(path, to, by))
        found.append([one for one in listing if one.path not in ("/.", "")])
    return found


def _list(directory: str, name: str) -> str:
    return Path(directory, "info", f"{name}.list").read_text("utf-8", "surrogateescape")


def alternatives() -> list[Alternative]:
    """Return all alternatives of this machine, by name."""
    directory = Path(admin_directory(), "alternatives")
    files = sorted(directory.iterdir()) if directory.is_dir() else []
    return [found for file in files if (found := parse_alternative(file.read_text()))]


def parse_packages(text: str) -> Iterator[Package]:
    """Yield the installed packages in what dpkg-query printed."""
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) != 7 or fields[2][1:2] not in _INSTALLED or not fields[2][1:2]:
            continue
        name, architecture, _, version, before, depends, provides = fields
        yield Package(name, architecture, version, f"{before}, {depends}", provides)


def _clauses(text: str) -> Iterator[Clause]:
    """Yield the clauses of a relation, without versions: what is installed satisfies them."""
    for clause in text.split(",") if text else ():
        names = (
            re.split(r"[\s(\[<]", option.strip(), maxsplit=1)[0] for option in clause.split("|")
        )
        if found := tuple(name for name in names if name):
            yield found


def parse_listings(text: str) -> list[list[Listed]]:
    """Return the paths per package in what `dpkg-query -L` printed."""
    listings: list[list[Listed]] = [[]]
    for line in text.splitlines():
        if not line:
            listings.append([])
        elif line.startswith("/"):
            if line != "/.":
                listings[-1].append(Listed(line))
        elif (match := _DIVERTED.fullmatch(line)) and match["to"] and listings[-1]:
            listings[-1][-1] = Listed(listings[-1][-1].path, match["to"], match["by"] or "")
    return listings


def parse_alternative(text: str) -> Alternative | None:
    """Return the alternative in one of dpkg's files (form: update-alternatives, `alternatives-db`);
    None where it is malformed."""
    lines = iter(text.split("\n"))
    try:
        next(lines)  # auto or manual: what the administrator chose here must not matter
        link = next(lines)
        slaves = []
        while next(lines):
            slaves.append(next(lines))
        choices = []
        while path := next(lines):
            priority = int(next(lines))
            targets = [next(lines) for _ in slaves]
            pairs = {slave: to for slave, to in zip(slaves, targets, strict=True) if to}
            choices.append(Choice(path, priority, pairs))
    except (StopIteration, ValueError):
        return None
    return Alternative(link, tuple(choices))


def _query(*arguments: str) -> str:
    environment = {**os.environ, "LC_ALL": "C", "LANGUAGE": "C"}
    try:
        done = subprocess.run(
            ["dpkg-query", *arguments], capture_output=True, env=environment, check=False
        )
    except FileNotFoundError:
        raise HostError(
            "this machine has no dpkg, so packages cannot be imported",
            'name the programs by path instead: paths = ["/usr/bin/gcc", …]',
        ) from None
    # 1 means that some package has no files to list, or is not there: the callers see to that.
    if done.returncode not in (0, 1):
        raise HostError(f"dpkg-query failed: {done.stderr.decode('utf-8', 'replace').strip()}")
    return os.fsdecode(done.stdout)


def hint_to_install(names: Iterable[str]) -> str:
    """Return the command that installs packages."""
    prefix = "" if os.geteuid() == 0 else "sudo "
    return f"{prefix}apt-get install {' '.join(names)}"
