"""`bn graph`: show the steps of a spec and what needs what."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from engine.cli.options import open_store, out, print_json, request, spec_options
from engine.graph import Graph
from engine.request import evaluated, labels_of, targets_of
from store.errors import OK

FORMATS = ("text", "dot", "mermaid", "json")


@click.command()
@spec_options
@click.option("--format", "form", type=click.Choice(FORMATS), default="text", show_default=True)
def command(
    names: tuple[str, ...],
    sets: tuple[str, ...],
    profile: str | None,
    executor: str,
    as_json: bool,
    form: str,
) -> int:
    """Show what the targets (default: all of them) are made of."""
    asked = request(names, sets, profile, executor)
    with open_store() as store:
        graph = evaluated(store, asked).graph
        labels = labels_of(graph, targets_of(graph, asked)) if asked.targets else None
        order = graph.order(labels)
    if as_json or form == "json":
        print_json(document(graph, order))
    else:
        for line in {"text": text, "dot": dot, "mermaid": mermaid}[form](graph, order):
            out(line)
    return OK


def _needs(graph: Graph, label: str) -> list[str]:
    return list(dict.fromkeys(need.recipe for need in graph.recipes[label].needs))


def _sources(graph: Graph, label: str) -> list[str]:
    return list(dict.fromkeys(one.stage for one in graph.recipes[label].selections))


def document(graph: Graph, order: list[str]) -> dict[str, object]:
    """Return the JSON form."""
    steps = {
        label: {
            "recipe": graph.recipes[label].digest,
            "command": list(graph.recipes[label].command),
            "needs": _needs(graph, label),
            "sources": _sources(graph, label),
            "outputs": list(graph.recipes[label].outputs),
            "test": graph.recipes[label].test,
        }
        for label in order
    }
    return {"steps": steps, "default": list(graph.default_targets())}


def text(graph: Graph, order: list[str]) -> Iterator[str]:
    """Yield a line for each step: what it needs, and what it gives."""
    for label in order:
        recipe = graph.recipes[label]
        needs = [*_sources(graph, label), *_needs(graph, label)]
        shown = ", ".join(needs[:4]) + (f" and {len(needs) - 4} more" if len(needs) > 4 else "")
        gives = ", ".join(recipe.outputs) or ("a test" if recipe.test else "nothing")
        yield f"{label} ← {shown or 'nothing'} → {gives}"


def dot(graph: Graph, order: list[str]) -> Iterator[str]:
    """Yield the graph for Graphviz."""
    yield "digraph bn {"
    yield "  rankdir=LR; node [shape=box];"
    for label in order:
        for source in _sources(graph, label):
            yield f"  {_quoted(source)} [shape=folder];"
            yield f"  {_quoted(source)} -> {_quoted(label)};"
        yield f"  {_quoted(label)};"
        for need in _needs(graph, label):
            yield f"  {_quoted(need)} -> {_quoted(label)};"
    yield "}"


def mermaid(graph: Graph, order: list[str]) -> Iterator[str]:
    """Yield the graph for Mermaid."""
    ids: dict[str, str] = {}

    def node(name: str) -> str:
        if name not in ids:
            ids[name] = f"n{len(ids)}"
            return f'{ids[name]}["{_mermaid_text(name)}"]'
        return ids[name]

    yield "flowchart LR"
    for label in order:
        for needed in [*_sources(graph, label), *_needs(graph, label)]:
            yield f"  {node(needed)} --> {node(label)}"
        if label not in ids:
            yield f"  {node(label)}"


def _quoted(name: str) -> str:
    escaped = re.sub(r'(["\\])', r"\\\1", name)
    return f'"{escaped}"'


def _mermaid_text(name: str) -> str:
    return name.replace('"', "#quot;")
