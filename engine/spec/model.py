"""What a spec may say: the classes that a TOML file is structured into.

Field names are the TOML names; a field's `doc` is its description in `bn schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from attrs import field, frozen

Scalar: TypeAlias = bool | int | str
"""A parameter's value; the type of its default is its type."""

SOURCE_KINDS: Final = ("path", "url", "pypi", "debian", "git", "npm")


def documented(doc: str, **options: Any) -> Any:
    """Return an attrs field whose description is `doc`."""
    return field(metadata={"doc": doc}, **options)


@frozen(kw_only=True)
class PackageSpec:
    """`[package]`: who this is and what is built when nothing is named."""

    name: str = documented("name of the package")
    version: str = documented("version, for people", default="")
    default: tuple[str, ...] = documented("artifacts built when no target is named", default=())


@frozen(kw_only=True)
class ImportSpec:
    """`[imports]`: another spec, whose artifacts are then `name:artifact`."""

    spec: str = documented("path of the other spec, relative to this one")
    set: Mapping[str, Scalar] = documented("values for its parameters", factory=dict)


@frozen(kw_only=True)
class SourceSpec:
    """`[sources.NAME]`: a tree of files; exactly one of the kinds says where it comes from."""

    path: str | None = documented("directory, relative to the spec", default=None)
    url: str | None = documented("address of a file", default=None)
    pypi: str | None = documented("source distribution, as NAME==VERSION", default=None)
    debian: str | None = documented("upstream tarball, as SOURCE=UPSTREAM_VERSION", default=None)
    git: str | None = documented("reserved", default=None)
    npm: str | None = documented("reserved", default=None)
    sha256: str | None = documented("SHA-256 of the fetched file, hexadecimal", default=None)
    unpack: bool = documented("unpack the fetched archive", default=False)
    strip: int = documented("leading path components to drop when unpacking", default=0)
    exclude: tuple[str, ...] = documented("globs of paths to leave out", default=())


@frozen(kw_only=True)
class ResourcesSpec:
    """`resources`: what an action may use; never part of a digest."""

    cpus: int = documented("processors that it keeps busy", default=1)
    memory: str | None = documented("most memory, as 512MB or 2GiB", default=None)
    timeout: str | None = documented("longest run, as 90s or 10m", default=None)


NOTHING: Final[Mapping[str, Any]] = {}
NO_RESOURCES: Final = ResourcesSpec()
"""What actions that say nothing of it share: a spec may have many."""


@frozen(kw_only=True)
class ActionSpec:
    """`[actions.NAME]`: a command with its inputs and outputs, or one for each item."""

    run: tuple[str, ...] | None = documented("command and arguments", default=None)
    script: str | None = documented("text for /bin/sh -eu", default=None)
    inputs: tuple[str, ...] = documented("selectors of what is staged", default=())
    outputs: tuple[str, ...] = documented("files and directories written under $out", default=())
    tools: tuple[str, ...] = documented("toolchains that make up the root file system", default=())
    env: Mapping[str, str] = documented("environment variables", default=NOTHING)
    foreach: tuple[str, ...] = documented("selectors: one action for each file", default=())
    matrix: Mapping[str, tuple[Scalar, ...]] = documented(
        "one action for each combination of these values", default=NOTHING
    )
    when: Mapping[str, Scalar | tuple[Scalar, ...]] = documented(
        "keep only combinations (and parameters) with these values", default=NOTHING
    )
    depfile: bool = documented("the action writes what it read to {depfile}", default=False)
    kind: str = documented('"build", or "test" for what `bn test` runs', default="build")
    resources: ResourcesSpec = documented("limits and hints", default=NO_RESOURCES)


@frozen(kw_only=True)
class ProfileSpec:
    """`[profiles.NAME]`: parameters set together."""

    params: Mapping[str, Scalar] = documented("parameter values", factory=dict)


@frozen(kw_only=True)
class SpecFile:
    """A whole spec file."""

    package: PackageSpec = documented("the package")
    params: Mapping[str, Scalar] = documented("parameters and their defaults", factory=dict)
    imports: Mapping[str, ImportSpec] = documented("other specs", factory=dict)
    sources: Mapping[str, SourceSpec] = documented("trees of files", factory=dict)
    toolchains: Mapping[str, str] = documented("toolchain files by name", factory=dict)
    actions: Mapping[str, ActionSpec] = documented("what is run", factory=dict)
    profiles: Mapping[str, ProfileSpec] = documented("sets of parameters", factory=dict)


@frozen(kw_only=True)
class ToolchainSpec:
    """`[toolchain]`: programs of this machine, imported as a tree."""

    debian: tuple[str, ...] = documented(
        "installed packages, taken with all that they depend on", default=()
    )
    paths: tuple[str, ...] = documented(
        "files and directories, absolute or relative to this file; FROM or FROM=TO", default=()
    )
    exclude: tuple[str, ...] = documented("globs of paths in the tree to leave out", default=())
    env: Mapping[str, str] = documented("variables for every action that uses it", factory=dict)


@frozen(kw_only=True)
class ToolchainFile:
    """A whole toolchain file."""

    toolchain: ToolchainSpec = documented("the toolchain")
