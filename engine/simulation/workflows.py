"""Work to simulate: from JSON files, from a spec with its history, from the timeline of a build.

Two forms of JSON are read: that of wfcommons (WfFormat, schemas 1.0 to 1.5) and bn's own::

    {"format": "bn.workflow.1",
     "steps": [{"name": "a", "seconds": 2.5, "needs": [], "cpus": 1, "memory": 0, "bytes": 0,
                "target": ""}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from engine.placement.work import Work, make_work, order
from store.errors import InputError

FORMAT: Final = "bn.workflow.1"

_HINT: Final = (
    'WfFormat of wfcommons, or {"format": "bn.workflow.1", "steps": '
    '[{"name": "a", "seconds": 2.5, "needs": []}]}'
)


@frozen(kw_only=True)
class Workflow:
    """Work with a name, and the target of each step (all empty where there are none)."""

    name: str
    work: Work
    targets: tuple[str, ...]
    notes: tuple[str, ...] = ()


def load_workflow(path: Path) -> Workflow:
    """Read a workflow from a JSON file. Raises InputError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {(error.strerror or '').lower()}") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    try:
        return parse_workflow(document, path.stem)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not a workflow: {what}", _HINT) from None
    except ValueError as error:
        raise InputError(f"{path}: {error}", _HINT) from None


def parse_workflow(document: Mapping[str, Any], name: str) -> Workflow:
    """Return the workflow that a JSON document describes. Raises KeyError, TypeError or ValueError
    where it describes none."""
    given = document.get("format")
    if given not in (None, FORMAT):
        raise ValueError(f"format: {given!r} is not known: it is {FORMAT!r}")
    rows = _own(document) if document.get("format") == FORMAT else _wf_format(document)
    return workflow_of(str(document.get("name", name)), rows)


def workflow_of(
    name: str, rows: Iterable[Mapping[str, Any]], notes: tuple[str, ...] = ()
) -> Workflow:
    """Return the workflow of steps in the form of bn's own JSON."""
    steps: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(dict(row).get("name"), str):
            raise ValueError(f"step {number} has no name")
        if row["name"] in steps:
            raise ValueError(f"two steps are named {row['name']!r}")
        steps[row["name"]] = row
    if not steps:
        raise ValueError("there are no steps")
    needs = {label: _names(label, row) for label, row in steps.items()}
    unknown = {need for below in needs.values() for need in below if need not in steps}
    if unknown:
        named = ", ".join(sorted(unknown)[:3])
        notes += (f"needed, but no steps, so there from the start: {len(unknown)} ({named})",)
    work = make_work(
        {label: _number(label, row, "seconds", 1e12) for label, row in steps.items()},
        needs,
        {label: max(1, int(_number(label, row, "cpus", 2**20))) for label, row in steps.items()},
        {label: int(_number(label, row, "memory", 2**60)) for label, row in steps.items()},
        {label: int(_number(label, row, "bytes", 2**60)) for label, row in steps.items()},
    )
    order(work)
    targets = tuple(str(row.get("target", "")) for row in steps.values())
    return Workflow(name=name, work=work, targets=targets, notes=notes)


def _number(label: str, row: Mapping[str, Any], name: str, most: float) -> float:
    """Return a number of a step, 0 where it has none."""
    value = row.get(name) or 0
    if not isinstance(value, int | float) or not 0 <= value < most:
        raise ValueError(f"step {label!r}: {name}: {value!r} is no number from 0 on")
    return float(value)


def _names(label: str, row: Mapping[str, Any]) -> list[str]:
    needs = row.get("needs") or []
    if not isinstance(needs, list | tuple | set | frozenset):
        raise ValueError(f"step {label!r}: needs: {needs!r} is no list of names")
    return [str(need) for need in needs]


def to_document(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow in bn's own JSON."""
    work = workflow.work
    rows = [
        {
            "name": label,
            "seconds": work.seconds[n],
            "needs": [work.labels[need] for need in work.needs[n]],
            "cpus": work.cpus[n],
            "memory": work.memory[n],
            "bytes": work.sizes[n],
            "target": workflow.targets[n],
        }
        for n, label in enumerate(work.labels)
    ]
    return {"format": FORMAT, "name": workflow.name, "steps": rows}


def _own(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(document["steps"])


def _wf_format(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the steps of a document of wfcommons: since schema 1.5 what a task is and how it ran
    stand apart."""
    workflow: Mapping[str, Any] = document["workflow"]
    specification: Mapping[str, Any] = workflow.get("specification") or workflow
    tasks = specification.get("tasks") or specification.get("jobs")
    if not isinstance(tasks, list):
        raise KeyError("tasks")
    ran: dict[str, Mapping[str, Any]] = {
        one["id"]: one for one in (workflow.get("execution") or {}).get("tasks", ())
    }
    files = {one["id"]: one.get("sizeInBytes", 0) for one in specification.get("files", ())}
    names = {str(task.get("id", task["name"])) for task in tasks}
    by_name = {str(task["name"]): str(task.get("id", task["name"])) for task in tasks}
    needs: dict[str, set[str]] = {name: set() for name in names}

    def known(name: object) -> str:
        return str(name) if str(name) in names else by_name.get(str(name), str(name))

    for task in tasks:
        own = str(task.get("id", task["name"]))
        needs[own].update(known(one) for one in task.get("parents", ()))
        for child in task.get("children", ()):
            needs.setdefault(known(child), set()).add(own)
    rows: list[Mapping[str, Any]] = []
    for task in tasks:
        own = str(task.get("id", task["name"]))
        run = ran.get(own) or task
        given = [files.get(one, 0) for one in task.get("outputFiles", ())]
        given += [
            one.get("sizeInBytes", one.get("size", 0))
            for one in task.get("files", ())
            if one.get("link") == "output"
        ]
        seconds = run.get("runtimeInSeconds", run.get("runtime", 0))
        rows.append(
            {
                "name": own,
                "seconds": max(0.0, float(seconds or 0)),
                "needs": sorted(needs[own]),
                "cpus": int(run.get("coreCount", run.get("cores", 1)) or 1),
                "memory": int(run.get("memoryInBytes", 0) or 0),
                "bytes": sum(given),
            }
        )
    return rows
