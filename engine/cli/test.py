"""`bn test`: run the actions of a spec that are tests."""

from __future__ import annotations

import click

from engine.cli.building import document, end_badly, finish, note_makespan, run
from engine.cli.options import (
    note,
    open_store,
    placement_options,
    print_json,
    remote_options,
    request,
    spec_options,
)
from engine.result import BuildStatus, Built, Failed
from engine.units import show_duration
from store.errors import OK


@click.command()
@spec_options
@remote_options
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processors to use (default: all).")
@click.option("--fail-fast", is_flag=True, help="Stop at the first failure.")
@click.option("--keep-failed", is_flag=True, help="Keep the sandbox of a failed test.")
@placement_options
def command(
    names: tuple[str, ...],
    sets: tuple[str, ...],
    profile: str | None,
    executor: str,
    as_json: bool,
    jobs: int | None,
    fail_fast: bool,
    keep_failed: bool,
    download: str,
    no_remote: bool,
    strategy: str | None,
    mode: str | None,
    explain: bool,
) -> int:
    """Run the tests of a spec, all of them if none is named.

    A test that passed is not run again until something that it needs changes.
    """
    asked = request(
        names,
        sets,
        profile,
        executor,
        tests=True,
        jobs=jobs,
        keep_going=not fail_fast,
        keep_failed=keep_failed,
        download=download,
        remote=not no_remote,
        strategy=strategy,
        mode=mode,
    )
    with open_store() as store:
        report = run(store, asked, explain=explain)
        finish(store, report)
        graph = report.evaluation.graph
        steps = report.result.steps
        labels = [label for target in report.targets for label in graph.labels_of(target)]
        for label in () if as_json else labels:
            step = steps[label]
            if isinstance(step, Built):
                note(f"passed   {label}  {show_duration(step.seconds)}")
            elif isinstance(step, Failed):
                note(f"failed   {label}")
            else:
                note(f"{type(step).__name__.lower():8} {label}")
        if report.result.status is BuildStatus.OK and not as_json:
            note_makespan(report)
        if report.result.status is not BuildStatus.OK:
            return end_badly(report, as_json)
    if as_json:
        print_json(document(report, None))
    return OK
