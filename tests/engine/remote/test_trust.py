"""Trust: which candidates are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import load_config
from engine.remote.settings import CacheSpec, laid_over
from engine.remote.trust import Policy, accepted, policy_of, ranked, signatures
from engine.remote.wire import Candidate
from store.digest import Digest, digest_bytes
from store.errors import HostError, InputError
from store.objects import REALISATION, RESULT, ActionResult, Realisation
from store.refused import pair
from store.signatures import SigningKey

A, O1, O2, L1, L2, R = (digest_bytes(text.encode()) for text in ("a", "o1", "o2", "l1", "l2", "r"))
KEYS = [SigningKey(name, bytes([number]) * 32) for number, name in enumerate("abc")]


def made(
    outputs: Digest,
    *signers: SigningKey,
    log: Digest = L1,
    recipe: tuple[SigningKey, ...] | None = None,
) -> Candidate:
    """Return a candidate signed by `signers`, with a realisation signed by `recipe`."""
    result = ActionResult(action=A, outputs=outputs, log=log)

    def by(keys: Any, kind: str, digest: Digest) -> tuple[tuple[str, str], ...]:
        return tuple((s.key, s.signature) for s in (key.sign(kind, digest) for key in keys))

    if recipe is None:
        return Candidate(result=result, signatures=by(signers, RESULT, result.digest()))
    realised = Realisation(recipe=R, action=A, outputs=outputs)
    return Candidate(
        result=result,
        signatures=by(signers, RESULT, result.digest()),
        realisation=realised,
        realisation_signatures=by(recipe, REALISATION, realised.digest()),
    )


def policy(*trusted: SigningKey, required: int = 1, **more: Any) -> Policy:
    keys = {key.name: key.public() for key in trusted}
    return Policy(keys=keys, required=required, **more)


def taken(candidates: list[Candidate], by: Policy) -> tuple[Digest, str] | None:
    found = accepted(candidates, by)
    return (found.candidate.result.outputs, found.key) if found else None


a, b, c = KEYS


def test_without_keys_the_first_is_taken() -> None:
    assert taken([made(O1), made(O2, a)], policy()) == (O1, "")
    assert taken([], policy()) is None


def test_with_keys_only_what_one_of_them_signed() -> None:
    assert taken([made(O1), made(O2, a)], policy(a, b)) == (O2, "a")
    assert taken([made(O1), made(O1, c)], policy(a, b)) is None


def test_a_signature_of_something_else_counts_nothing() -> None:
    good = made(O1, a)
    moved = Candidate(result=made(O2).result, signatures=good.signatures)
    assert taken([moved], policy(a)) is None
    renamed = Candidate(result=made(O2).result, signatures=(("a", made(O2, c).signatures[0][1]),))
    assert taken([renamed], policy(a)) is None
    broken = Candidate(result=made(O2).result, signatures=(("a", "x"), ("a", ""), ("", "")))
    assert taken([broken], policy(a)) is None
    assert taken([broken, good], policy(a)) == (O1, "a")


def test_another_key_of_the_same_name_counts_nothing() -> None:
    false = SigningKey("a", bytes([9]) * 32)
    assert taken([made(O1, false)], policy(a)) is None
    assert taken([made(O1, false, a)], policy(a)) == (O1, "a")


def test_as_many_as_are_required() -> None:
    two = policy(a, b, c, required=2)
    assert taken([made(O1, a)], two) is None
    assert taken([made(O1, a, a)], two) is None
    assert taken([made(O1, a, b)], two) == (O1, "a, b")
    assert taken([made(O1, a, SigningKey("x", b"x" * 32))], two) is None


def test_those_who_got_the_same_outputs_count_together_whatever_was_printed() -> None:
    two = policy(a, b, c, required=2)
    assert taken([made(O1, a), made(O1, b, log=L2)], two) == (O1, "a, b")
    assert taken([made(O1, a), made(O2, b)], two) is None
    # but who signed nothing gets in on nobody's account
    found = [one.candidate.result.log for one in ranked([made(O1), made(O1, a, b, log=L2)], two)]
    assert found == [L2]


def test_the_one_that_most_signed_comes_first() -> None:
    every = policy(a, b, c)
    found = [one.key for one in ranked([made(O1, a), made(O2, b, c)], every)]
    assert found == ["b, c", "a"]


def test_a_realisation_is_signed_as_well() -> None:
    assert taken([made(O1, a, recipe=(a,))], policy(a)) == (O1, "a")
    assert taken([made(O1, a, recipe=())], policy(a)) is None
    assert taken([made(O1, recipe=(a,))], policy(a)) is None
    assert taken([made(O1, a, recipe=(c,))], policy(a)) is None
    two = policy(a, b, required=2)
    assert taken([made(O1, a, b, recipe=(a,))], two) is None
    assert taken([made(O1, a, recipe=(a,)), made(O1, b, log=L2, recipe=(b,))], two) == (O1, "a, b")


def test_what_is_refused_is_not_taken() -> None:
    one = made(O1, a, recipe=(a,))
    assert one.realisation
    for digest in (one.result.digest(), O1, one.realisation.digest(), pair(A, O1)):
        for keys in ((), (a,)):
            by = policy(*keys, refused=frozenset({digest}))
            assert taken([one], by) is None
            assert taken([one, made(O2, a)], by) == (O2, "a" if keys else "")


def test_what_is_built_here_is_signed(tmp_path: Path) -> None:
    a.write(tmp_path / "key")
    more = {"signing_key": str(tmp_path / "key"), "trusted_keys": [str(a.public())]}
    by = policy_of(CacheSpec(remotes=(), more=more))
    result = made(O1).result
    pairs = tuple((one["key"], one["signature"]) for one in signatures(RESULT, result.digest(), by))
    assert taken([Candidate(result=result, signatures=pairs)], by) == (O1, "a")
    assert signatures(RESULT, result.digest(), policy(a)) == []


def test_keys_that_make_no_sense(tmp_path: Path) -> None:
    public = str(a.public())
    for more in (
        {"trusted_keys": [public, public]},
        {"trusted_keys": [public, public.replace("a:", "z:", 1)]},
        {"trusted_keys": [public], "required_signatures": 2},
        {"required_signatures": 2},
    ):
        with pytest.raises(InputError):
            policy_of(CacheSpec(remotes=(), more=more))
    with pytest.raises(HostError):
        policy_of(CacheSpec(remotes=(), more={"signing_key": str(tmp_path / "none")}))


def test_a_project_does_not_choose_whom_its_user_trusts() -> None:
    user: dict[str, Any] = {"trusted_keys": ["u"], "required_signatures": 2}
    others: list[dict[str, Any]]
    others = [{"trusted_keys": ["p"], "required_signatures": 1}, {"trusted_keys": []}]
    for theirs in others:
        found = laid_over(user, theirs, Path("/"))
        assert found["trusted_keys"] == ["u"]
        assert found["required_signatures"] == 2
    found = laid_over({}, {"trusted_keys": ["p"], "required_signatures": 3}, Path("/"))
    assert found["trusted_keys"] == ["p"]
    assert laid_over({"trusted_keys": []}, {"trusted_keys": ["p"]}, Path("/"))["trusted_keys"] == [
        "p"
    ]


def test_whose_a_remote_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "bn").mkdir(parents=True)
    (tmp_path / "home" / "bn" / "config.toml").write_text(
        '[[cache.remotes]]\nurl = "https://mine"\nca = "mine.pem"\n'
    )
    file = tmp_path / "bn.toml"
    file.write_text(
        '[[cache.remotes]]\nurl = "https://mine"\nca = "theirs.pem"\nwrite = false\n'
        '[[cache.remotes]]\nurl = "https://mine/"\nname_space = "team"\ncertificate = "c.pem"\n'
        '[[cache.remotes]]\nurl = "https://theirs"\nca = "theirs.pem"\n'
    )
    cache = load_config(tmp_path / "store", tmp_path).cache
    assert cache is not None
    mine = str(tmp_path / "home" / "bn" / "mine.pem")
    assert [(one.url, one.own, one.write, one.ca, one.certificate) for one in cache.remotes] == [
        ("https://mine", True, False, mine, None),
        ("https://mine/", True, True, mine, None),
        ("https://theirs", False, True, str(tmp_path / "theirs.pem"), None),
    ]
    (alone,) = [one for one in cache.remotes if not one.own]
    assert alone.url == "https://theirs"
    named = load_config(tmp_path / "store", file=file).cache
    assert named is not None
    assert all(one.own for one in named.remotes)


def test_the_configuration_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    c.write(tmp_path / "keys" / "c")
    file = tmp_path / "bn.toml"
    file.write_text(
        f'[cache]\nsigning_key = "keys/c"\ntrusted_keys = ["{a.public()}"]\n'
        "required_signatures = 1\n"
    )
    cache = load_config(tmp_path / "store", tmp_path).cache
    assert cache is not None
    found = policy_of(cache)
    assert list(found.keys.values()) == [a.public()]
    assert found.signer == c
    for wrong, place in (
        ('trusted_keys = ["x"]', "2:17: this is no public key"),
        (f'trusted_keys = ["{(tmp_path / "keys" / "c").read_text().strip()}"]', "private key"),
        ("required_signatures = 0", "at least 1"),
    ):
        file.write_text(f"[cache]\n{wrong}\n")
        with pytest.raises(InputError, match=place):
            load_config(tmp_path / "store", tmp_path)
