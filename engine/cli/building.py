"""Builds as commands make them: run, told, delivered, recorded."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine import __version__
from engine.cli.asking import SPEC_NAME, note, open_store, out, print_json
from engine.cli.console import make_console
from engine.delivery import copy_result, link_result, result_tree
from engine.plan import Blocked, Cached, Plan, Run
from engine.request import Request, planned
from engine.result import BuildStatus, Built, Failed, Skipped
from engine.session import Report, build, recordable
from engine.spec.faults import shown
from engine.timeline.events import Event
from engine.units import show_duration
from store import spans
from store.digest import Digest
from store.errors import ACTION_FAILED, INTERRUPTED, OK, InputError
from store.presence import is_whole
from store.records import evolve
from store.store import Store

RESULT_LINK = "result"

TOLD_SECONDS = 5.0
"""The makespan from which on it is told of."""


def build_asked(
    asked: Request,
    as_json: bool = False,
    *,
    target: Path | None = None,
    no_link: bool = False,
    dry_run: bool = False,
    trace: Path | None = None,
    explain: bool = False,
    check: bool = False,
    watchers: Sequence[Callable[[Event], None]] = (),
    opened: Store | None = None,
) -> int:
    """Build what is asked for and return the exit code; in a store that was `opened`, if one was.

    The result is linked as ./result, unless it goes to `target` or nowhere (`no_link`). Where bn's
    own time goes is written to `trace`; with `explain` it is said why each action starts where and
    when it does; with `check` what was built is run again and compared.
    """
    if trace is not None:
        spans.record()
        try:
            return build_asked(
                asked,
                as_json,
                target=target,
                no_link=no_link,
                dry_run=dry_run,
                explain=explain,
                check=check,
            )
        finally:
            spans.write(trace)
    if target is not None and target.exists() and not target.is_dir():
        raise InputError(f"--out {target}: is there already and is no directory")
    context = open_store(sweep_later=True) if opened is None else contextlib.nullcontext(opened)
    with context as store:
        if dry_run:
            return _dry_run(store, asked, as_json)
        if asked.verify is not None and store.cas.upstream is None:
            raise InputError(
                "no remote cache is configured, so there is nothing to verify",
                "name one in bn.toml under [[cache.remotes]]: url",
            )
        if target is None and not no_link and asked.download != "minimal":
            asked = evolve(asked, link=Path(RESULT_LINK))
        with spans.span("build"):
            report = run(store, asked, explain=explain, watchers=watchers)
        tell_verified(report)
        if report.result.status is BuildStatus.OK:
            with spans.span("deliver"):
                code = _deliver(store, asked, report, target, no_link, as_json)
        else:
            code = end_badly(report, as_json)
        if check and code == OK:
            code = _checked(store, asked, report)
        finish(store, report)
    return code


def run(
    store: Store,
    asked: Request,
    *,
    explain: bool = False,
    watchers: Sequence[Callable[[Event], None]] = (),
) -> Report:
    """Run a build with a console on standard error."""
    console = make_console(store.cas, again(asked), explain=explain)
    try:
        return build(store, asked, [console, *watchers])
    finally:
        console.close()


def _checked(store: Store, asked: Request, report: Report) -> int:
    """Run what was built again and compare; return the exit code."""
    from engine.cli.replay import replay_build
    from engine.places import places
    from engine.replay.running import How

    jobs = places(store.root, asked.jobs).cpus
    return replay_build(store, report.result.build, How(jobs=jobs), ran=True, tell=note)


def tell_verified(report: Report) -> None:
    """Say how much of what remotes gave was built again."""
    verified = report.verified
    if verified is None:
        return
    if not verified.of:
        note("nothing was taken from remote caches, so there was nothing to verify")
    else:
        note(f"verified {len(verified.labels)} of {verified.of} results of remote caches")


def finish(store: Store, report: Report) -> None:
    """Give uploads to remote caches some time, unless the user wants it to end."""
    if store.cas.upstream is not None and report.result.status is not BuildStatus.INTERRUPTED:
        from engine.cli.sharing import end_uploads

        with spans.span("upload"):
            end_uploads(store, report.result.build)


def again(asked: Request) -> str:
    """Return the words that name the request's spec with its parameters on a command line."""
    words = [] if asked.spec == Path(SPEC_NAME) else [str(asked.spec)]
    words += [] if asked.profile is None else ["--profile", asked.profile]
    for name, value in asked.sets.items():
        words += ["--set", f"{name}={value}"]
    return _joined(words)


def _joined(words: Sequence[str]) -> str:
    """Return words as a shell takes them."""
    if not words:
        return ""
    import shlex

    return shlex.join(words)


def end_badly(report: Report, as_json: bool) -> int:
    """Say how a build that did not succeed ended and return the exit code."""
    result = report.result
    if as_json:
        print_json(document(report, None))
    if result.status is BuildStatus.INTERRUPTED:
        note(f"interrupted after {show_duration(result.seconds)}; what was built is kept")
        return INTERRUPTED
    for label, step in result.steps.items():
        if isinstance(step, Failed) and step.outcome is None:
            note(f"failed: {label}: {step.reason}")
    failed, skipped = result.count(Failed), result.count(Skipped)
    more = f", {skipped} not tried" if skipped else ""
    note(f"{failed} failed{more}, {result.count(Built)} built, {result.count(Cached)} cached")
    note_makespan(report)
    return ACTION_FAILED


def _deliver(
    store: Store, asked: Request, report: Report, target: Path | None, no_link: bool, as_json: bool
) -> int:
    """Put the result where the user wants it, say so, and record that all is up to date."""
    tree = result_tree(store, report.trees)
    links: dict[str, str] = {}
    if target is not None:
        copy_result(store, tree, target)
        where = str(target)
    elif no_link:
        where = str(store.cas.path(tree))
    elif asked.download == "minimal" and not is_whole(store.cas, tree):
        _unlink(Path(RESULT_LINK))
        where = "not fetched"
    else:
        link = Path(RESULT_LINK)
        links[str(link.absolute())] = str(link_result(store, tree, link, rooted=report.rooted))
        where = f"./{link}"
    text = summary(report, where)
    said = json.dumps(document(report, tree), indent=2) + "\n" if as_json else ""
    sys.stdout.write(said)
    note(text)
    note_makespan(report)
    if links and recordable(report.evaluation):
        with spans.span("record"):
            _record(store, report, links, tree, as_json, where)
    return OK


def _unlink(link: Path) -> None:
    """Remove the link to an earlier result: it would show what is no longer so."""
    if link.is_symlink():
        link.unlink()


def _record(
    store: Store, report: Report, links: dict[str, str], tree: Digest, as_json: bool, where: str
) -> None:
    from engine.record import record_path, write_record
    from engine.timeline.log import NAME

    arguments = sys.argv[2:]
    if sys.argv[1:2] != ["build"]:
        return
    with contextlib.suppress(OSError):  # without a record the next build looks again
        write_record(
            record_path(store.root, [__version__, *arguments]),
            report.evaluation.watched,
            links,
            _later(report, tree) if as_json else "",
            f"up to date: {_targets(report)} → {where}\n",
            str(store.root / "builds" / report.result.build / NAME),
        )


def _later(report: Report, tree: Digest) -> str:
    """Return the JSON text of a later build that finds all up to date."""
    later = {**document(report, tree), "up_to_date": True}
    later["makespan"] = None
    later["steps"] = {label: {"status": "cached"} for label in report.result.steps}
    return json.dumps(later, indent=2) + "\n"


def summary(report: Report, where: str) -> str:
    """Return the line that ends a build that succeeded."""
    result = report.result
    if report.up_to_date:
        return f"up to date: {_targets(report)} → {where}"
    built, cached = result.count(Built), result.count(Cached)
    counts = f"{built} built, {cached} cached"
    return f"{_targets(report)} → {where}  ({counts}, {show_duration(result.seconds)})"


def note_makespan(report: Report) -> None:
    """Say of a build that took some time how near it was to the least possible."""
    makespan = report.result.makespan
    if makespan is None or makespan.seconds < TOLD_SECONDS:
        return
    note(
        f"makespan {show_duration(makespan.seconds)}, at least {show_duration(makespan.bound)} "
        f"({makespan.bounds}): ×{makespan.ratio:.2f}, "
        f"{makespan.utilisation:.0%} of {makespan.processors} processors"
    )


def _targets(report: Report) -> str:
    more = len(report.targets) - 4
    names = ", ".join(report.targets[:4])
    return f"{names} and {more} more" if more > 0 else names


def document(report: Report, tree: Digest | None) -> dict[str, Any]:
    """Return the JSON form of a report."""
    result = report.result
    verified = report.verified
    more = {"verified": {"labels": list(verified.labels), "of": verified.of}} if verified else {}
    return {
        "build": result.build,
        "status": str(result.status),
        "up_to_date": report.up_to_date,
        **more,
        "seconds": round(result.seconds, 3),
        "makespan": result.makespan.document() if result.makespan else None,
        "result": tree,
        "targets": dict(report.trees),
        "steps": {label: step_document(step) for label, step in result.steps.items()},
    }


def step_document(step: object) -> dict[str, Any]:
    """Return the JSON form of how a step ended."""
    plain: dict[str, Any] = {"status": type(step).__name__.lower()}
    match step:
        case Built(outputs, action, seconds):
            plain |= {"outputs": outputs, "action": action, "seconds": round(seconds, 3)}
        case Cached(outputs, action):
            plain |= {"outputs": outputs, "action": action}
        case Failed(reason, action, outcome):
            plain |= {"reason": reason, "action": action}
            if outcome is not None:
                plain |= {"exit_code": outcome.exit_code, "log": outcome.log}
        case Skipped(because):
            plain |= {"because": because}
    return plain


def _dry_run(store: Store, asked: Request, as_json: bool) -> int:
    """Show the plan and run nothing."""
    _, plan = planned(store, asked)
    if as_json:
        print_json({"steps": {label: _planned(step) for label, step in plan.steps.items()}})
        return OK
    for label, step in plan.steps.items():
        if isinstance(step, Run):
            out(f"run   {label}: {step.reason}")
        elif isinstance(step, Blocked):
            out(f"wait  {label}: for {_names(step.waits_for)}")
    counts = _count(plan)
    if not counts["run"] and not counts["wait"]:
        note(f"up to date: {shown(asked.spec)}")
    else:
        note(f"{counts['run']} would run, {counts['wait']} may follow, {counts['cached']} cached")
    return OK


def _count(plan: Plan) -> dict[str, int]:
    kinds = {"run": Run, "wait": Blocked, "cached": Cached}
    steps = plan.steps.values()
    return {name: sum(isinstance(step, kind) for step in steps) for name, kind in kinds.items()}


def _planned(step: object) -> dict[str, Any]:
    match step:
        case Run(reason):
            return {"plan": "run", "reason": reason}
        case Blocked(waits_for):
            return {"plan": "wait", "for": list(waits_for)}
    return {"plan": "cached"}


def _names(labels: tuple[str, ...]) -> str:
    more = f" and {len(labels) - 2} more" if len(labels) > 2 else ""
    return ", ".join(labels[:2]) + more
