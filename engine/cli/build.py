"""`bn build`: build the targets of a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from engine.cli.building import build_asked
from engine.cli.options import placement_options, remote_options, request, spec_options


class Verify(click.ParamType[Any]):
    """How many results, or all."""

    name = "N|all"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | Literal["all"]:
        """Return the number."""
        if value == "all":
            return "all"
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r}: write a number, or all", param, ctx)
        return int(value)


@click.command()
@spec_options
@remote_options
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processors to use (default: all).")
@click.option("-k", "--keep-going", is_flag=True, help="Go on with what a failure does not touch.")
@click.option("--keep-failed", is_flag=True, help="Keep the sandbox of a failed action.")
@click.option(
    "--out", "target", type=click.Path(path_type=Path), help="Copy the result into this directory."
)
@click.option("--no-link", is_flag=True, help="Make no ./result link.")
@click.option(
    "--profile-bn",
    "trace",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write where bn's own time went to this file (Chrome trace).",
)
@click.option(
    "--verify-remote",
    "verify",
    type=Verify(),
    help="Build so many results of remote caches again, and compare; `all` for all of them.",
)
@click.option("--check", is_flag=True, help="Run what was built again, and compare: bn replay.")
@placement_options
@click.option("-n", "--dry-run", is_flag=True, help="Say which actions would run, and why.")
def command(
    names: tuple[str, ...],
    sets: tuple[str, ...],
    profile: str | None,
    executor: str,
    as_json: bool,
    jobs: int | None,
    keep_going: bool,
    keep_failed: bool,
    target: Path | None,
    no_link: bool,
    explain: bool,
    dry_run: bool,
    trace: Path | None,
    download: str,
    no_remote: bool,
    verify: int | Literal["all"] | None,
    check: bool,
    strategy: str | None,
    mode: str | None,
) -> int:
    """Build the targets of a spec (./spec.toml), its default ones if none is named.

    The result is a tree in the store; ./result links to it.
    """
    asked = request(
        names,
        sets,
        profile,
        executor,
        jobs=jobs,
        keep_going=keep_going,
        keep_failed=keep_failed,
        download=download,
        remote=not no_remote,
        verify=verify,
        strategy=strategy,
        mode=mode,
    )
    if verify is not None and no_remote:
        raise click.UsageError("--verify-remote and --no-remote exclude each other")
    return build_asked(
        asked,
        as_json,
        target=target,
        no_link=no_link,
        dry_run=dry_run,
        trace=trace,
        explain=explain,
        check=check,
    )
