"""`bn simulate`: a build in virtual time, on any hardware, by any policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.cli.options import json_option, note, open_store, out, print_json
from engine.placement.modes import POLICIES
from store.errors import ACTION_FAILED, OK, host_error

if TYPE_CHECKING:
    from engine.simulation.hardware import Hardware
    from engine.simulation.history import History
    from engine.simulation.workflows import Workflow


HOTTEST: Final = 8
"""Nodes whose temperatures are told, the hottest first."""


@click.command()
@click.argument("workflow", required=False, type=click.Path(path_type=Path))
@click.option("--build", metavar="BUILD", help="Replay what ran in a recorded build, or `last`.")
@click.option(
    "--nodes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The hardware, as TOML; four equal nodes of one processor without it.",
)
@click.option("--policy", type=click.Choice(POLICIES), default="unified", show_default=True)
@click.option(
    "--max-wait", type=click.FloatRange(0), metavar="S", help="Wait no longer for a better node."
)
@click.option("--seed", type=int, default=0, show_default=True, help="What chance comes from.")
@click.option(
    "--error",
    type=click.FloatRange(0, 0.95),
    default=0.0,
    metavar="SHARE",
    help="By how much durations differ from what is expected, at most: 0.3 is ±30 %.",
)
@click.option("--width", type=click.IntRange(10, 500), default=72, help="Columns of the chart.")
@click.option("--svg", type=click.Path(path_type=Path), metavar="FILE", help="Draw a Gantt chart.")
@click.option(
    "--history", type=click.Path(path_type=Path), metavar="FILE", help="Write every run as JSON."
)
@click.option("--explain", is_flag=True, help="Say of every step why it ran there.")
@json_option
def command(
    workflow: Path | None,
    build: str | None,
    nodes: Path | None,
    policy: str,
    max_wait: float | None,
    seed: int,
    error: float,
    width: int,
    svg: Path | None,
    history: Path | None,
    explain: bool,
    as_json: bool,
) -> int:
    """Simulate a workflow: a JSON file of wfcommons or of bn, or a spec with what its steps took
    when they ran last."""
    if (workflow is None) == (build is None):
        raise click.UsageError(
            "name one thing to simulate: a workflow (JSON), a spec, or a past build by --build ID"
        )
    from engine.placement.modes import policy_of
    from engine.simulation.core import Settings, simulate
    from engine.simulation.gantt import svg_chart
    from engine.simulation.hardware import Hardware, Machine, load_hardware
    from engine.simulation.history import encoded

    hardware = load_hardware(nodes) if nodes else Hardware(nodes=(Machine(name="node", count=4),))
    work = _workflow(workflow, build)
    if policy == "target-isolated":
        hardware = _divided(hardware, work)
    settings = Settings(
        policy=policy_of(policy, float("inf") if max_wait is None else max_wait),
        seed=seed,
        error=error,
        explain=explain or svg is not None,
        targets=work.targets if any(work.targets) else (),
    )
    done = simulate(work.work, hardware, settings)
    if svg is not None:
        _write(svg, svg_chart(done, f"{work.name}, {policy}").encode())
    if history is not None:
        _write(history, encoded(done.lines()))
    if as_json:
        print_json(document(work, done, policy, seed, explain))
    else:
        for line in work.notes:
            note(line)
        for line in lines(work, done, width, explain):
            out(line)
    return ACTION_FAILED if done.unfinished else OK


def _workflow(workflow: Path | None, build: str | None) -> Workflow:
    from engine.request import Request
    from engine.simulation.workflows import load_workflow

    if workflow is not None and workflow.suffix != ".toml" and not workflow.is_dir():
        return load_workflow(workflow)
    from engine.simulation.past import workflow_of_build, workflow_of_spec
    from engine.timeline.named import find_build

    with open_store() as store:
        if build is not None:
            return workflow_of_build(store, find_build(store.root, build))
        assert workflow is not None
        spec = workflow / "spec.toml" if workflow.is_dir() else workflow
        return workflow_of_spec(store, Request(spec=spec))


def _divided(hardware: Hardware, workflow: Workflow) -> Hardware:
    """Return the hardware with its nodes divided among the targets of the workflow."""
    from attrs import evolve

    from engine.placement.modes import isolated

    shares: dict[str, float] = {}
    for target, seconds in zip(workflow.targets, workflow.work.seconds, strict=True):
        shares[target] = shares.get(target, 0.0) + seconds
    named = hardware.named()
    divided = isolated([node for node, _ in named], shares)
    machines = [
        evolve(machine, name=node.name, count=1, only=node.only)
        for node, (_, machine) in zip(divided, named, strict=True)
    ]
    return evolve(hardware, nodes=tuple(machines))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise host_error(error, "cannot be written") from error


def lines(workflow: Workflow, history: History, width: int, explain: bool) -> list[str]:
    """Return what is shown to people."""
    from engine.simulation.gantt import text_chart

    bound = history.bound
    simple = f"critical path {bound.critical_path:.2f} s, work {bound.work:.2f} s"
    found = [
        f"{workflow.name}: {len(workflow.work)} steps on {len(history.nodes)} nodes",
        f"makespan     {history.makespan:.2f} s",
        f"lower bound  {bound.seconds:.2f} s ({simple})",
        f"ratio        {history.ratio:.3f}",
        f"utilisation  {history.utilisation:.1%}",
    ]
    warm = {one.name: one.peak for one in history.nodes if one.peak is not None}
    if warm:
        found.append(f"temperature  {max(warm.values()):.1f} °C at most")
    if len(warm) > 1:
        hottest = sorted(warm.items(), key=lambda one: -one[1])[:HOTTEST]
        shown = [f"{name} {peak:.1f}" for name, peak in hottest] + ["…"] * (len(warm) > HOTTEST)
        found.append(f"             {', '.join(shown)}")
    if history.plans:
        found.append(f"plans        {len(history.plans)}: {', '.join(history.plans[:8])}")
    again = sum(run.outcome != "ended" for run in history.runs)
    if again:
        found.append(f"run again    {again} times, after failures and lost nodes")
    if history.unfinished:
        found.append(f"not done     {len(history.unfinished)} steps: no node is left for them")
        found.append("             see preference, only, vanish and back of the nodes")
    found += ["", *text_chart(history, width)]
    if explain:
        for run in sorted(history.runs, key=lambda one: (one.start, one.label)):
            found.append(f"{run.start:10.2f} s  {run.label} on {run.node}: {run.why}")
    return found


def document(
    workflow: Workflow, history: History, policy: str, seed: int, explain: bool
) -> dict[str, Any]:
    """Return the JSON form; seconds, °C, shares from 0 to 1."""
    return {
        "workflow": workflow.name,
        "steps": len(workflow.work),
        "policy": policy,
        "seed": seed,
        "makespan": history.makespan,
        "lower_bound": history.bound.seconds,
        "critical_path": history.bound.critical_path,
        "work": history.bound.work,
        "ratio": history.ratio,
        "utilisation": history.utilisation,
        "plans": list(history.plans),
        "unfinished": list(history.unfinished),
        "notes": list(workflow.notes),
        "nodes": [
            {
                "name": one.name,
                "cpus": one.cpus,
                "utilisation": one.utilisation(history.makespan),
                "peak_celsius": one.peak,
            }
            for one in history.nodes
        ],
        "runs": [
            {
                "label": run.label,
                "node": run.node,
                "start": run.start,
                "end": run.end,
                "outcome": run.outcome,
                **({"why": run.why} if explain else {}),
            }
            for run in history.runs
        ],
    }
