"""The closure of packages: all that they depend on, among what is installed."""

from __future__ import annotations

from collections.abc import Iterable

from engine.toolchains.dpkg import Clause, Package, hint_to_install
from store.errors import InputError


def closure(installed: Iterable[Package], wanted: Iterable[str]) -> list[Package]:
    """Return the packages named in `wanted` and all that they depend on, sorted.

    Of the alternatives of a dependency the first installed one counts, of the packages that provide
    a name the first by name: the same packages give the same closure everywhere. Packages that
    Debian calls essential are no dependency of any other and have to be named. Raises InputError
    that lists all of `wanted` that is not installed.
    """
    known = _Installed(installed)
    roots = {name: known.find(name, known.native) for name in dict.fromkeys(wanted)}
    missing = [name for name, package in roots.items() if package is None]
    if missing:
        names = ", ".join(missing)
        raise InputError(f"packages that are not installed: {names}", hint_to_install(missing))
    reached: dict[str, Package] = {}
    todo = [package for package in roots.values() if package is not None]
    while todo:
        package = todo.pop()
        if str(package) in reached:
            continue
        reached[str(package)] = package
        # A dependency that nothing satisfies was forced upon dpkg; then it was not needed.
        found = (known.first(clause, package.architecture) for clause in package.depends)
        todo += [dependency for dependency in found if dependency is not None]
    return [reached[name] for name in sorted(reached)]


class _Installed:
    """The installed packages by what may name them."""

    def __init__(self, packages: Iterable[Package]) -> None:
        self.native = ""
        self._by_name: dict[str, list[Package]] = {}
        self._providers: dict[str, list[Package]] = {}
        for package in sorted(packages, key=str):
            if package.name == "dpkg":
                self.native = package.architecture
            self._by_name.setdefault(package.name, []).append(package)
            for name in package.provides:
                self._providers.setdefault(name, []).append(package)

    def first(self, clause: Clause, architecture: str) -> Package | None:
        """Return what satisfies a dependency of a package of `architecture`."""
        found = (self.find(name, architecture) for name in clause)
        return next((package for package in found if package is not None), None)

    def find(self, name: str, architecture: str) -> Package | None:
        """Return the package called `name`, else the first that provides it."""
        name, _, qualifier = name.partition(":")
        if qualifier not in ("", "any", "native"):
            architecture = qualifier
        elif architecture in ("", "all") or qualifier == "native":
            architecture = self.native
        for candidates in (self._by_name.get(name, []), self._providers.get(name, [])):
            fitting = [p for p in candidates if p.architecture in (architecture, "all")]
            if fitting or (qualifier == "any" and candidates):
                return (fitting or candidates)[0]
        return None
