"""What bn's own protocol says, taken apart and checked: candidates and closures.

Whatever a remote answers is believed as far as it is of the right form and has the right digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from store.digest import Digest, digest_bytes, is_digest
from store.encoding import encode
from store.errors import BnError
from store.objects import ACTION, REALISATION, RESULT, ActionResult, Directory, Realisation, Tree
from store.records import frozen

Signature = tuple[str, str]
"""The name of a key, and base64."""

SECONDS_MOST: Final = 1e9
"""The longest that an action may have taken."""


class Lie(Exception):
    """A remote's answer is not what it has to be; the message says what is wrong."""


@frozen(kw_only=True)
class Candidate:
    """A result that a remote offers and, where a recipe was asked for, that recipe's realisation,
    each with its signatures. `seconds` is how long the result took where it was built, as somebody
    says: 0 where nobody does; `made_of` the bytes of its action, where they came with it."""

    result: ActionResult
    signatures: tuple[Signature, ...]
    realisation: Realisation | None = None
    realisation_signatures: tuple[Signature, ...] = ()
    seconds: float = 0.0
    made_of: bytes | None = None


Closures = Mapping[Digest, tuple[Tree, bytes]]
"""Trees by digest, with their canonical bytes."""


def parse(data: bytes) -> dict[str, Any]:
    """Return the JSON object in an answer; raises Lie."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Lie("its answer is no JSON") from None
    if not isinstance(document, dict):
        raise Lie("its answer is no JSON object")
    return document


def results(document: Mapping[str, Any], asked: Iterable[Digest]) -> dict[Digest, list[Candidate]]:
    """Return the candidates of those actions that have some, in an answer to `actions:get`."""
    return {
        key: [_result(one, action=key) for one in values]
        for key, values in _by_digest(document, "actions", asked)
    }


def realisations(
    document: Mapping[str, Any], asked: Iterable[Digest]
) -> dict[Digest, list[Candidate]]:
    """Return the candidates of those recipes that have some, in an answer to
    `realisations:get`."""
    return {
        key: [made for one in values for made in _realised(one, key)]
        for key, values in _by_digest(document, "realisations", asked)
    }


def closures(document: Mapping[str, Any]) -> dict[Digest, tuple[Tree, bytes]]:
    """Return the trees in an answer to `closures:get`, each checked against its digest."""
    trees = document.get("trees")
    if not isinstance(trees, dict):
        raise Lie("its answer holds no trees")
    found = {}
    for digest, plain in trees.items():
        try:
            data = encode(plain)
            if digest_bytes(data) != digest:
                raise Lie(f"tree {digest} is not what its digest says")
            found[Digest(digest)] = (Tree.decode(data), data)
        except (BnError, TypeError, ValueError, AttributeError, RecursionError):
            raise Lie(f"tree {digest} is malformed") from None
    return found


def below(root: Digest, trees: Closures) -> dict[Digest, tuple[Tree, bytes]] | None:
    """Return the tree `root` and all below it; None where `trees` does not hold them all."""
    found: dict[Digest, tuple[Tree, bytes]] = {}
    pending = [root]
    while pending:
        digest = pending.pop()
        if digest in found:
            continue
        if digest not in trees:
            return None
        found[digest] = trees[digest]
        entries = trees[digest][0].entries.values()
        pending += [entry.digest for entry in entries if isinstance(entry, Directory)]
    return found


def digests(document: Mapping[str, Any], name: str) -> set[Digest]:
    """Return the digests in a list of an answer."""
    values = document.get(name)
    if not isinstance(values, list) or not all(isinstance(v, str) and is_digest(v) for v in values):
        raise Lie(f"its answer holds no list of digests {name!r}")
    return {Digest(value) for value in values}


def _by_digest(
    document: Mapping[str, Any], name: str, asked: Iterable[Digest]
) -> Iterator[tuple[Digest, list[Any]]]:
    found = document.get(name)
    if not isinstance(found, dict) or not all(isinstance(v, list) for v in found.values()):
        raise Lie(f"its answer holds no {name}")
    for key in asked:
        if found.get(key):
            yield key, found[key]


def _realised(value: Any, recipe: Digest) -> Iterator[Candidate]:
    match value:
        case {
            "realisation": {
                "_": str(kind),
                "action": str(action),
                "outputs": str(outputs),
                "recipe": str(named),
                **rest,
            },
            "results": list(results),
            **more,
        } if kind == REALISATION and named == recipe and not rest:
            if not all(map(is_digest, (action, outputs))):
                raise Lie("a realisation is malformed")
            made = Realisation(recipe=recipe, action=Digest(action), outputs=Digest(outputs))
            signatures = _signatures(more.get("signatures", []))
            for one in results:
                found = _result(one, action=Digest(action))
                if found.result.outputs == outputs:
                    yield Candidate(
                        result=found.result,
                        signatures=found.signatures,
                        realisation=made,
                        realisation_signatures=signatures,
                        seconds=found.seconds,
                        made_of=found.made_of,
                    )
        case _:
            raise Lie("a realisation is malformed")


def _result(value: Any, action: Digest) -> Candidate:
    match value:
        case {
            "result": {
                "_": str(kind),
                "action": str(named),
                "log": str(log),
                "observed": None | list() as observed,
                "outputs": str(outputs),
                **rest,
            },
            **more,
        } if kind == RESULT and named == action and not rest:
            paths = observed if observed is None else tuple(observed)
            if all(map(is_digest, (log, outputs))) and _are_paths(paths or ()):
                result = ActionResult(
                    action=action, outputs=Digest(outputs), log=Digest(log), observed=paths
                )
                return Candidate(
                    result=result,
                    signatures=_signatures(more.get("signatures", [])),
                    seconds=_seconds(more.get("seconds", 0)),
                    made_of=_action(more.get("action"), action),
                )
    raise Lie("a result is malformed")


def _action(value: Any, digest: Digest) -> bytes | None:
    """Return the bytes of an action; None where there is none, or something else has its digest."""
    match value:
        case None:
            return None
        case {
            "_": str(kind),
            "command": list(command),
            "depfile": bool(),
            "env": dict(env),
            "input_root": str(root),
            "isolation": str(),
            "outputs": list(outputs),
            "platform": str(),
            "toolchains": list(toolchains),
            **rest,
        } if kind == ACTION and not rest:
            texts = [*command, *env.values(), *outputs, *toolchains]
            if all(isinstance(text, str) for text in texts):
                data = encode(value)
                if digest_bytes(data) != digest:
                    raise Lie("an action is not what its digest says")
                return data if all(map(is_digest, (root, *toolchains))) else None
    return None


def _seconds(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= SECONDS_MOST:
        raise Lie("the seconds of a result are malformed")
    return float(value)


def _are_paths(paths: Iterable[Any]) -> bool:
    return all(isinstance(path, str) and path for path in paths)


def _signatures(value: Any) -> tuple[Signature, ...]:
    try:
        pairs = [(one["key"], one["signature"]) for one in value]
    except (TypeError, KeyError):
        raise Lie("signatures are malformed") from None
    if not all(isinstance(text, str) for pair in pairs for text in pair):
        raise Lie("signatures are malformed")
    return tuple(pairs)
