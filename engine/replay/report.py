"""What a replay came to, in words, for machines, and as JUnit XML and Markdown for CI."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from attrs import asdict

from engine.replay.running import Other, Replayed
from engine.replay.surroundings import KINDS
from engine.units import show_duration

SHOWN = 5
"""Files that are told of one action."""


def line(one: Replayed) -> str:
    """Return the line of an action that was replayed."""
    took = show_duration(one.seconds)
    if one.same:
        times = f" {one.runs} times" if one.runs > 1 else ""
        return f"same    {one.recorded.label}{times}  {took}"
    if one.gone:
        return f"gone    {one.recorded.label}: {one.gone}"
    return f"differs {one.recorded.label}  {took}"


def details(one: Replayed) -> Iterator[str]:
    """Yield what there is to say of an action that came out otherwise."""
    other = one.other
    if other is None:
        return
    yield f"action {one.recorded.action}"
    yield because(other)
    if other.reason:
        yield other.reason
    for difference in other.differences[:SHOWN]:
        yield str(difference)
    if len(other.differences) > SHOWN:
        yield f"and {len(other.differences) - SHOWN} more files"


def because(other: Other) -> str:
    """Return what makes an action come out otherwise, as far as that is known."""
    if not other.perturbed:
        return "it came out otherwise in the usual surroundings"
    kinds = [KINDS[kind] for kind in other.because if kind]
    if "" in other.because:
        return "it comes out otherwise by itself, now and then"
    if kinds:
        return f"it comes out otherwise with {' or with '.join(kinds)}"
    return (
        f"it came out otherwise with {', '.join(KINDS[kind] for kind in other.perturbed)} together"
    )


def summary(build: str, found: Sequence[Replayed]) -> str:
    """Return the line at the end."""
    counts = {
        "the same": sum(one.same for one in found),
        "otherwise": sum(one.other is not None for one in found),
        "gone": sum(bool(one.gone) for one in found),
    }
    told = ", ".join(f"{number} {name}" for name, number in counts.items() if number)
    runs = sum(one.runs for one in found)
    took = show_duration(sum(one.seconds for one in found))
    return (
        f"replay of {build}: {len(found)} actions, {runs} runs, {took}: {told or 'nothing to do'}"
    )


def document(build: str, found: Sequence[Replayed]) -> dict[str, Any]:
    """Return the JSON form."""
    return {
        "build": build,
        "same": all(one.same for one in found),
        "actions": [
            {**asdict(one), "because": because(one.other) if one.other else None} for one in found
        ],
    }


def junit(build: str, found: Sequence[Replayed]) -> bytes:
    """Return a JUnit XML report: each action is a test; one that is gone is skipped."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"bn replay {build}",
        tests=str(len(found)),
        failures=str(sum(one.other is not None for one in found)),
        errors="0",
        skipped=str(sum(bool(one.gone) for one in found)),
        time=f"{sum(one.seconds for one in found):.3f}",
    )
    for one in found:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname="replay",
            name=_clean(one.recorded.label),
            time=f"{one.seconds:.3f}",
        )
        if one.gone:
            ElementTree.SubElement(case, "skipped", message=_clean(one.gone))
        elif one.other is not None:
            failure = ElementTree.SubElement(
                case, "failure", message=_clean(because(one.other)), type="NotReproducible"
            )
            failure.text = _clean("\n".join(details(one)))
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode")
    return f"<?xml version='1.0' encoding='utf-8'?>\n{text}\n".encode()


def markdown(build: str, found: Sequence[Replayed]) -> str:
    """Return a summary in Markdown."""
    lines = [f"### {summary(build, found)}", ""]
    wrong = [one for one in found if not one.same]
    if wrong:
        lines += ["| action | what came out |", "|---|---|"]
        for one in wrong:
            first = next(iter(one.other.differences), None) if one.other else None
            told = one.gone or (because(one.other) if one.other else "")
            told += f"; {first}" if first else ""
            lines.append(f"| {_cell(one.recorded.label)} | {_cell(told)} |")
        lines += ["", f"To look into it: `bn replay {shlex.quote(build)} --perturb all`"]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return "`" + text.replace("|", "\\|").replace("`", "'").replace("\n", " ") + "`"


def _clean(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return "".join(one if one in "\n\t" or one >= " " else "\ufffd" for one in text)
