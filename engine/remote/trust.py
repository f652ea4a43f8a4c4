"""Trust: which of the candidates that a remote offers are taken, and what is shown for one's own.

The one place where that is decided. Without trusted keys whoever may write to a remote is believed;
with them only what enough of the keys signed, wherever it lies.

What ran here is signed: a result is true whatever its inputs are, as it names them. A realisation
is true only if all that it rests on is. So it is signed only by who takes nothing unsigned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from engine.remote.settings import CacheSpec
from engine.remote.wire import Candidate
from store.digest import Digest
from store.errors import BnError, InputError
from store.index import Table
from store.objects import REALISATION, RESULT, ActionResult
from store.records import field, frozen
from store.refused import pair
from store.signatures import PublicKey, Signature, SigningKey
from store.store import Store

_Said: TypeAlias = tuple[object, ...]
"""What a signature stands for, but for the log, which differs each time that an action runs."""


@frozen(kw_only=True)
class Policy:
    """What a candidate has to show: signatures by `required` of the trusted `keys`, where there are
    any; `refused` ones are never taken. `signer` signs what is built here."""

    keys: Mapping[str, PublicKey] = field(factory=dict)
    required: int = 1
    refused: frozenset[Digest] = frozenset()
    signer: SigningKey | None = None


@frozen
class Accepted:
    """The candidate that is taken, and the names of the keys for whose sake, as `a, b` (nothing
    where none had to be shown)."""

    candidate: Candidate
    key: str = ""


def policy_of(cache: CacheSpec, refused: Iterable[Digest] = ()) -> Policy:
    """Return the policy that is configured. Raises InputError for keys that are none or too few,
    HostError where the signing key cannot be read."""
    more = cache.more
    keys = parse_keys(more.get("trusted_keys", ()))
    required = more.get("required_signatures", 1)
    if required > 1 and len(keys) < required:
        message = f"[cache] required_signatures is {required}, but trusted_keys has {len(keys)}"
        raise InputError(message)
    path = more.get("signing_key")
    return Policy(
        keys=keys,
        required=required,
        refused=frozenset(refused),
        signer=SigningKey.read(Path(path)) if path else None,
    )


def parse_keys(texts: Iterable[str]) -> dict[str, PublicKey]:
    """Return public keys by name; raises InputError, also for one that stands there twice."""
    keys: dict[str, PublicKey] = {}
    for text in texts:
        key = PublicKey.parse(text)
        if key.name in keys or any(key.data == other.data for other in keys.values()):
            raise InputError(f"key {key.name!r} is trusted twice", "each counts for one signature")
        keys[key.name] = key
    return keys


def key_fault(text: str) -> str | None:
    """Return what is wrong with a trusted key, None where nothing is."""
    try:
        PublicKey.parse(text)
    except BnError as error:
        return error.message
    return None


def accepted(candidates: Sequence[Candidate], policy: Policy) -> Accepted | None:
    """Return the candidate to take of those that are offered for one digest, None where none is."""
    return next(ranked(candidates, policy), None)


def ranked(candidates: Sequence[Candidate], policy: Policy) -> Iterator[Accepted]:
    """Yield the candidates that may be taken, those with the most trusted signatures first.

    Keys that signed the same outputs of the same action count together, whatever its log was; but
    the candidate itself bears one of these signatures.
    """
    offered = [one for one in candidates if not _is_refused(one, policy.refused)]
    if not policy.keys:
        yield from map(Accepted, offered)
        return
    signers: dict[_Said, set[str]] = {}
    signed: list[tuple[Candidate, list[_Said]]] = []
    for one in offered:
        said = []
        for what, kind, digest, pairs in _statements(one):
            good = set(_good(policy.keys, kind, digest, pairs))
            if good:
                signers.setdefault(what, set()).update(good)
                said.append(what)
        if len(said) == len(list(_statements(one))):
            signed.append((one, said))
    found = []
    for one, said in signed:
        fewest = min((signers[what] for what in said), key=len)
        if len(fewest) >= policy.required:
            found.append((len(fewest), Accepted(one, ", ".join(sorted(fewest)))))
    found.sort(key=lambda row: row[0], reverse=True)
    yield from (one for _, one in found)


def signatures(kind: str, digest: Digest, policy: Policy) -> list[dict[str, str]]:
    """Return the signatures that a result or a realisation (`kind`), built here, is given to
    remotes with."""
    if policy.signer is None:
        return []
    made = policy.signer.sign(kind, digest)
    return [{"key": made.key, "signature": made.signature}]


def has_unsigned(store: Store) -> bool:
    """Say whether a store has results that were taken from remotes without a trusted signature."""
    rows = store.index.items(Table.ORIGINS)
    return any(b'"key":' not in value for _, value in rows)


def is_mine(store: Store, result: ActionResult) -> bool:
    """Say whether a result was built here, and not taken from a remote."""
    origin = store.index.get_json(Table.ORIGINS, result.action)
    return not isinstance(origin, dict) or origin.get("result") != result.digest()


_Statement: TypeAlias = tuple[_Said, str, Digest, Sequence[tuple[str, str]]]


def _statements(candidate: Candidate) -> Iterator[_Statement]:
    """Yield what a candidate says, and who signed that: a result, and perhaps a realisation."""
    result = candidate.result
    yield _said(result), RESULT, result.digest(), candidate.signatures
    made = candidate.realisation
    if made is not None:
        what = (REALISATION, made.recipe, made.action, made.outputs)
        yield what, REALISATION, made.digest(), candidate.realisation_signatures


def _said(result: ActionResult) -> _Said:
    return (RESULT, result.action, result.outputs, result.observed)


def _good(
    keys: Mapping[str, PublicKey], kind: str, digest: Digest, pairs: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Yield the names of the trusted keys among the signatures that are right."""
    for name, text in pairs:
        key = keys.get(name)
        if key is not None and key.verifies(kind, digest, Signature(name, text)):
            yield name


def _is_refused(candidate: Candidate, refused: frozenset[Digest]) -> bool:
    if not refused:
        return False
    made, result = candidate.realisation, candidate.result
    named = {result.digest(), result.outputs, pair(result.action, result.outputs)}
    return not refused.isdisjoint(named | ({made.digest()} if made else set()))
