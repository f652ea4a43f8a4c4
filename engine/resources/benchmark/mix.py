"""The fixed compute mix for machines without node: a toy compiler, run by Python alone.

It does what the compilation of TypeScript does, in small: takes text apart with a regular
expression, parses it to a tree of objects, resolves names in scopes, infers types with memory of
what was asked before, writes text, and sorts. It imports nothing of bn, so that a bare
`python -I -S` runs it: `python mix.py ROUNDS` prints a number that depends on all that was done.
"""

from __future__ import annotations

import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROUNDS = 300
"""Rounds of a whole measurement. To change what a round does makes another benchmark."""

RESULT = 389247
"""What `run(ROUNDS)` gives; another result means that something else was measured."""

TOKEN = re.compile(r"\s*(?:(\d+)|([a-z_]\w*)|(=>|[-+*/(){},;=]))")
CHECK = 1_000_003


class Node:
    """A node of the tree: its kind, its parts, and a name or a number."""

    __slots__ = ("kind", "parts", "value")

    def __init__(self, kind: str, value: Any, parts: list[Node]) -> None:
        self.kind = kind
        self.value = value
        self.parts = parts


def source(seed: int) -> str:
    """Return a program of a hundred and twenty functions; each calls those before it."""
    lines = []
    state = seed * 2654435761 % 2**32
    for at in range(120):
        state = (state * 1664525 + 1013904223) % 2**32
        one, other = state % max(1, at), (state >> 8) % max(1, at)
        lines.append(
            f"f{at} = (a, b) => {{ c{at} = a * {state % 97 + 1} + b; d = (c{at} - {at}) * (a + b);"
            f" e_{at} = d + f{one}(c{at}, {at}) * f{other}(d, a) - (a * (b + (d - c{at}))); }};"
        )
    return "\n".join(lines)


def tokens(text: str) -> list[str]:
    """Return the words of a program."""
    return [next(filter(None, match.groups())) for match in TOKEN.finditer(text)]


class Parser:
    """Parses words to a list of functions."""

    def __init__(self, words: list[str]) -> None:
        self.words = [*words, ""]
        self.at = 0

    def take(self) -> str:
        """Return the next word and go on."""
        word = self.words[self.at]
        self.at += 1
        return word

    def functions(self) -> list[Node]:
        """Parse all."""
        found = []
        while self.words[self.at]:
            name = self.take()
            self.at += 2  # = (
            names = []
            while (word := self.take()) != ")":
                if word != ",":
                    names.append(word)
            self.at += 2  # => {
            body = []
            while self.words[self.at] != "}":
                target = self.take()
                self.at += 1
                body.append(Node("set", target, [self.total()]))
                self.at += 1
            self.at += 2
            found.append(Node("function", name, [Node("names", names, []), *body]))
        return found

    def total(self) -> Node:
        """Parse sums and differences."""
        left = self.product()
        while self.words[self.at] in ("+", "-"):
            left = Node(self.take(), None, [left, self.product()])
        return left

    def product(self) -> Node:
        """Parse products."""
        left = self.single()
        while self.words[self.at] in ("*", "/"):
            left = Node(self.take(), None, [left, self.single()])
        return left

    def single(self) -> Node:
        """Parse a number, a name, a call, or what stands in brackets."""
        word = self.take()
        if word == "(":
            inside = self.total()
            self.at += 1
            return inside
        if word.isdigit():
            return Node("number", int(word), [])
        if self.words[self.at] != "(":
            return Node("name", word, [])
        self.at += 1
        given = [self.total()]
        while self.take() == ",":
            given.append(self.total())
        return Node("call", word, given)


def infer(
    node: Node, scope: dict[str, tuple[str, ...]], known: dict[object, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the type of a node: a tuple of words, made once for the same parts."""
    kind = node.kind
    if kind == "number":
        return ("number", "small" if node.value < 50 else "large")
    if kind == "name":
        return scope.get(node.value, ("unknown",))
    parts = tuple(infer(part, scope, known) for part in node.parts)
    key = (kind, node.value, parts)
    found = known.get(key)
    if found is None:
        words = {word for part in parts for word in part}
        found = known[key] = tuple(sorted(words | {kind}))
    return found


def emit(node: Node, out: list[str]) -> None:
    """Write a node."""
    if node.kind in ("number", "name"):
        out.append(str(node.value))
        return
    out.append(f"{node.kind}[{node.value or ''}" if node.value else f"({node.kind}")
    for part in node.parts:
        out.append(" ")
        emit(part, out)
    out.append("]" if node.value else ")")


def round_of(seed: int) -> int:
    """Compile one program; return a number that depends on all that was done."""
    known: dict[object, tuple[str, ...]] = {}
    scopes: dict[str, dict[str, tuple[str, ...]]] = {}
    texts = []
    for function in Parser(tokens(source(seed))).functions():
        names = function.parts[0].value
        scope: dict[str, tuple[str, ...]] = {name: ("parameter", name) for name in names}
        for statement in function.parts[1:]:
            scope[statement.value] = infer(statement.parts[0], scope, known)
            out: list[str] = []
            emit(statement, out)
            texts.append("".join(out))
        scopes[function.value] = scope
    texts.sort(key=lambda text: (len(text), text))
    joined = "\n".join(texts)
    total = 0
    for name, scope in sorted(scopes.items()):
        total = (total * 31 + len(name) + sum(map(len, scope.values()))) % CHECK
    return (total + len(joined) + joined.count("call") * 7 + len(known)) % CHECK


def run(rounds: int) -> int:
    """Do so many rounds and return the result."""
    total = 0
    for seed in range(rounds):
        total = (total * 17 + round_of(seed)) % CHECK
    return total


if __name__ == "__main__":
    sys.stdout.write(f"{run(int(sys.argv[1]))}\n")
