"""Candidates: results and realisations with their signatures, as clients send and get them.

Pure. A document's digest is that of its canonical bytes, however the client spelled it; what a
signature is worth is for clients to say.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from attrs import frozen

from engine.http.message import Failure
from store.digest import Digest, digest_bytes, is_digest
from store.encoding import TYPE_KEY, encode
from store.objects import REALISATION, RESULT

T = TypeVar("T")

MOST: Final = 8
"""Candidates under one key, and signatures of one candidate, that are given out, and that one
writer may store."""

MOST_OF_ALL: Final = 64
"""Candidates under one key, and signatures of one candidate, of all writers together."""

DOCUMENT_MOST: Final = 4 * 2**20
"""Bytes of a document."""

SIGNATURES: Final = "signatures"
SECONDS: Final = "seconds"
WRITER: Final = "by"
"""The key of a row's `meta` under which `writer_of` stands."""

SECONDS_MOST: Final = 1e9
"""The longest that an action may have taken."""

_NAME_DIGITS: Final = 24
"""Digits of the digest of a signature that tell its row from others'."""

_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9+/]{85}[AQgw]==")


@frozen
class Candidate:
    """A result or realisation and who signed it.

    `key` is the action digest of a result, the recipe digest of a realisation; `signatures` are
    pairs of a key's name and base64. `seconds` is how long a result took where it was built, as its
    builder says: 0 where that is not known. Nobody signs it.
    """

    kind: str
    key: Digest
    digest: Digest
    data: bytes
    action: Digest
    outputs: Digest
    log: Digest | None = None
    signatures: tuple[tuple[str, str], ...] = ()
    results: tuple[Candidate, ...] = ()
    """The results that a realisation came with."""
    seconds: float = 0.0

    def rows(self, writer: str) -> dict[str, dict[str, str]]:
        """Return key and `meta` of its rows: one, and one for each signature. So none takes
        another's place, and signatures come together from whoever signs."""
        base = f"{self.key}/{self.digest}"
        by = {WRITER: writer}
        rows = {base: {SECONDS: f"{self.seconds:.3f}", **by} if self.seconds else by}
        for key, signature in self.signatures:
            name = digest_bytes(f"{key} {signature}".encode())[:_NAME_DIGITS]
            rows[f"{base}/{name}"] = {"key": key, "signature": signature, **by}
        return rows


def writer_of(name: str, peer: str) -> str:
    """Return what stands for a writer: of who showed a token or a certificate its name, of others
    the address. Short, and it does not tell either."""
    return digest_bytes((f"name {name}" if name else f"peer {peer}").encode())[:16]


def shared_out(rows: Sequence[T], writer: Callable[[T], str | None]) -> list[T]:
    """Return up to `MOST` of some rows, in their order, so that no writer crowds out another: the
    first of each, then the second of each, and so on."""
    if len(rows) <= MOST:
        return list(rows)
    seen = Counter[str | None]()
    turns = []
    for index, row in enumerate(rows):
        by = writer(row)
        seen[by] += 1
        turns.append((seen[by], index))
    return [rows[index] for index in sorted(index for _, index in sorted(turns)[:MOST])]


def result_candidate(value: object) -> Candidate:
    """Return the candidate in a request's JSON. Raises Failure(400)."""
    match value:
        case {"result": dict(document), **rest} if rest.keys() <= {SIGNATURES, SECONDS}:
            seconds = _seconds(rest.get(SECONDS, 0))
            return _result(document, rest.get(SIGNATURES, []), seconds)
    raise Failure(400, "a candidate is a `result` with `signatures`, and `seconds`")


def realisation_candidate(value: object) -> Candidate:
    """Return the candidate in a request's JSON. Raises Failure(400)."""
    match value:
        case {"realisation": dict(document), "results": list(results), **rest} if (
            rest.keys() <= {SIGNATURES} and 0 < len(results) <= MOST
        ):
            found = _realisation(document, rest.get(SIGNATURES, []), results)
            if all(
                (one.action, one.outputs) == (found.action, found.outputs) for one in found.results
            ):
                return found
            raise Failure(400, "a result is of another action than the realisation, or gave else")
    raise Failure(400, "a candidate is a `realisation` with `signatures` and 1 to 8 `results`")


def parsed(data: bytes, kind: str) -> Candidate | None:
    """Return the candidate, unsigned and without results, in a stored document of this kind
    (`action` or `realisation`); None where it is none."""
    try:
        document = json.loads(data)
        if not isinstance(document, dict):
            return None
        made = _result(document, []) if kind == "action" else _realisation(document, [], [])
    except (ValueError, RecursionError, Failure):
        return None
    return made if made.data == data else None


def result_text(
    data: bytes, metas: Iterable[Mapping[str, str]], action: bytes | None = None
) -> bytes:
    """Return the JSON of a candidate: a result's document, the `meta` of its rows, and perhaps the
    document of its action."""
    listed = list(metas)
    took = seconds_in(listed)
    made_of = b'"action":%s,' % action if action else b""
    seconds = f'"{SECONDS}":{took},'.encode() if took else b""
    return b'{%s"result":%s,%s"signatures":%s}' % (
        made_of,
        data,
        seconds,
        _signatures_text(listed),
    )


def seconds_in(metas: Iterable[Mapping[str, str]]) -> float:
    """Return how long a result took, by the `meta` of its rows; 0 where they do not say."""
    for one in metas:
        if SECONDS in one:
            try:
                return _seconds(float(one[SECONDS]))
            except (ValueError, Failure):
                continue
    return 0.0


def realisation_text(
    data: bytes, metas: Iterable[Mapping[str, str]], results: Iterable[bytes]
) -> bytes:
    """Return the JSON of a candidate: a realisation's document, the `meta` of its rows, and the
    JSON of its results."""
    listed = b",".join(results)
    return b'{"realisation":%s,"results":[%s],"signatures":%s}' % (
        data,
        listed,
        _signatures_text(metas),
    )


def _signatures_text(metas: Iterable[Mapping[str, str]]) -> bytes:
    signed = [one for one in metas if "key" in one]
    if not signed:
        return b"[]"
    listed = [
        {"key": one["key"], "signature": one["signature"]}
        for one in shared_out(signed, lambda meta: meta.get(WRITER))
    ]
    return json.dumps(listed, separators=(",", ":")).encode()


def _result(document: dict[str, Any], signatures: object, seconds: float = 0.0) -> Candidate:
    match document:
        case {
            "_": "result.1",
            "action": str(action),
            "log": str(log),
            "observed": None | list() as observed,
            "outputs": str(outputs),
            **rest,
        } if not rest and all(map(is_digest, (action, log, outputs))):
            if all(isinstance(path, str) and path for path in observed or ()):
                return Candidate(
                    kind="action",
                    key=Digest(action),
                    action=Digest(action),
                    outputs=Digest(outputs),
                    log=Digest(log),
                    signatures=_signatures(signatures),
                    seconds=seconds,
                    **_encoded(document),
                )
    raise Failure(400, f"malformed {RESULT}", f"its fields are {TYPE_KEY}, action, log, …")


def _realisation(document: dict[str, Any], signatures: object, results: list[Any]) -> Candidate:
    match document:
        case {
            "_": "realisation.1",
            "action": str(action),
            "outputs": str(outputs),
            "recipe": str(recipe),
            **rest,
        } if not rest and all(map(is_digest, (action, outputs, recipe))):
            return Candidate(
                kind="realisation",
                key=Digest(recipe),
                action=Digest(action),
                outputs=Digest(outputs),
                signatures=_signatures(signatures),
                results=tuple(map(result_candidate, results)),
                **_encoded(document),
            )
    raise Failure(400, f"malformed {REALISATION}", f"its fields are {TYPE_KEY}, action, …")


def _encoded(document: dict[str, Any]) -> dict[str, Any]:
    """Return canonical bytes and digest of a document."""
    try:
        data = encode(document)
    except ValueError as error:  # half of a surrogate pair
        raise Failure(400, f"a document has no canonical form: {error}") from None
    if len(data) > DOCUMENT_MOST:
        raise Failure(413, f"a document has {len(data)} bytes, more than {DOCUMENT_MOST}")
    return {"data": data, "digest": digest_bytes(data)}


def _seconds(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= SECONDS_MOST:
        return float(value)
    raise Failure(400, "malformed seconds", f"a number from 0 to {SECONDS_MOST:.0f}")


def _signatures(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, list) and len(value) <= MOST:
        pairs = list(map(_signature, value))
        if None not in pairs:
            return tuple(dict.fromkeys(pair for pair in pairs if pair))
    raise Failure(400, "malformed signatures", "up to 8 of a key's name and 64 bytes in base64")


def _signature(value: object) -> tuple[str, str] | None:
    match value:
        case {"key": str(key), "signature": str(signature), **rest} if not rest:
            if _KEY_NAME.fullmatch(key) and _SIGNATURE.fullmatch(signature):
                return key, signature
    return None
