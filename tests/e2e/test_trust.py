"""Trust in remote caches: who may read and write, what is taken, and what is done about lies."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from store.digest import digest_bytes
from store.signatures import SigningKey
from tests.e2e.caches import (
    CacheServer,
    Lie,
    builder,
    cache_server,
    get,
    lie,
    recipe_of,
    remote,
    steps,
)
from tests.e2e.conftest import Bn

RIGHT = "first\nfirst\n"
EVIL = "evil\n"


def truth(project: Bn) -> tuple[dict[str, Any], Lie]:
    """Return how the steps end when nobody lies, and a lie about the first."""
    honest = builder(project, "honest")
    ended = steps(honest)
    false = lie(ended["first"], recipe_of(honest, ended["first"]["action"]), "first", EVIL)
    return ended, false


def lies(project: Bn) -> tuple[dict[str, Any], Lie, Lie]:
    """Return the same, and a lie about the last step, too."""
    ended, false = truth(project)
    honest = builder(project, "also-honest")
    steps(honest)
    last = recipe_of(honest, ended["second"]["action"])
    return ended, false, lie(ended["second"], last, "second", EVIL)


# who may


def test_only_ci_may_write(project: Bn, server: CacheServer) -> None:
    ended, _ = truth(project)
    (project.directory / "ci.token").write_text(server.token("ci", "write"))
    (project.directory / "dev.token").write_text(server.token("dev", "read"))
    dev = builder(project, "dev", remote(server.url, token_file="dev.token"))
    said = dev("build")
    assert "403" in said.stderr
    assert dev.result("second") == RIGHT
    action = ended["first"]["action"]
    ci = builder(project, "ci", remote(server.url, token_file="ci.token"))
    assert get(server, f"actions/{action}", (project.directory / "ci.token").read_text()) == 404
    assert ci.ran() == {"first", "second"}
    assert get(server, f"actions/{action}", (project.directory / "ci.token").read_text()) == 200
    other = builder(project, "other", remote(server.url, token_file="dev.token"))
    assert other.ran() == set()
    assert other.result("second") == RIGHT


def test_who_has_no_token_builds_for_himself(project: Bn, server: CacheServer) -> None:
    server.token("ci", "write")
    nobody = builder(project, "nobody", remote(server.url))
    said = nobody("build").stderr
    assert len(re.findall(r"\b401\b", said)) == 1, "one warning"
    assert nobody.result("second") == RIGHT


def test_a_revoked_token_lets_nobody_in(project: Bn, server: CacheServer) -> None:
    token = server.token("dev", "write")
    (project.directory / "token").write_text(token)
    assert builder(project, "one", remote(server.url, token_file="token")).ran()
    assert get(server, f"blobs/{'0' * 64}", token) == 404
    server.bn("token", "remove", "dev")
    assert get(server, f"blobs/{'0' * 64}", token) == 401
    two = builder(project, "two", remote(server.url, token_file="token"))
    said = two("build")
    assert len(re.findall(r"\b401\b", said.stderr)) == 1
    assert two.result("second") == RIGHT


def test_refusals_say_why_in_plain_text(server: CacheServer) -> None:
    token = server.token("dev", "read", "--name-space", "team")
    path = f"/bn/v1/blobs/{'0' * 64}"
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for headers in ({}, {"authorization": "Bearer bn_no"}, {"authorization": "Basic !"}):
            for method in ("GET", "HEAD", "PUT"):
                answer = client.request(method, path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["content-type"].startswith("text/plain")
                assert answer.headers["www-authenticate"].startswith("Basic realm=")
        assert "token is needed to read in 'default'" in client.get(path).text
        mine = {"authorization": f"Bearer {token}"}
        refused = client.put(path, headers=mine, content=b"x")
        assert refused.status_code == 403
        assert "'dev' may not write in 'team'" in refused.text
        assert client.get("/health").status_code == 200
        for adapter in (f"/ac/{'0' * 64}", "/v8/artifacts/0123456789abcdef", "/v1/cache/1"):
            assert client.get(adapter).status_code == 401
            assert client.get(adapter, headers=mine).status_code == 404
            assert client.put(adapter, headers=mine, content=b"x").status_code == 403


def test_an_expired_token_lets_nobody_in(server: CacheServer) -> None:
    token = server.token("short", "read", "--expires", "0s")
    assert get(server, f"blobs/{'0' * 64}", token) == 401


def test_tokens_that_others_can_read_let_nobody_in(server: CacheServer) -> None:
    token = server.token("dev", "read")
    assert get(server, f"blobs/{'0' * 64}", token) == 404
    (server.store / "serve" / "tokens.json").chmod(0o644)
    assert get(server, f"blobs/{'0' * 64}", token) == 401
    for _ in range(300):
        if any("lets others at the tokens" in line for line in server.said):
            break
        time.sleep(0.1)
    else:
        raise AssertionError(server.said)
    (server.store / "serve" / "tokens.json").chmod(0o600)
    assert get(server, f"blobs/{'0' * 64}", token) == 404
    (server.store / "serve" / "tokens.json").unlink()
    for shown in (token, ""):
        assert get(server, f"blobs/{'0' * 64}", shown) == 401, "it does not become open to all"


def test_a_token_ends_at_its_name_space(server: CacheServer) -> None:
    token = server.token("team", "write", "--name-space", "team")
    assert get(server, f"blobs/{'0' * 64}", token) == 404, "the only one that it is for"
    for path, status in (("team", 404), ("other", 403), ("default", 403)):
        url = f"{server.url}/ns/{path}/bn/v1/blobs/{'0' * 64}"
        answer = httpx.get(url, headers={"authorization": token}, trust_env=False)
        assert answer.status_code == status


def test_certificates_say_who_may(project: Bn, tmp_path: Path) -> None:
    ca = trustme.CA()
    home = tmp_path / "pki"
    home.mkdir()
    ca.cert_pem.write_to_path(str(home / "ca.pem"))
    for name in ("server", "ci", "dev", "stranger"):
        made = ca.issue_cert("127.0.0.1", common_name=name)
        made.private_key_pem.write_to_path(str(home / f"{name}.key"))
        made.cert_chain_pems[0].write_to_path(str(home / f"{name}.pem"))
    config = f"""
[serve.tls]
certificate = "{home}/server.pem"
key = "{home}/server.key"
client_ca = "{home}/ca.pem"
require_client = true
[[serve.tls.clients]]
name = "ci"
match = ["CN:ci"]
scope = "write"
[[serve.tls.clients]]
name = "dev"
match = ["CN:dev"]
"""
    with cache_server(tmp_path / "server", config) as server:

        def by(name: str, directory: str = "") -> Bn:
            mine = {"certificate": home / f"{name}.pem", "key": home / f"{name}.key"}
            return builder(
                project, directory or name, remote(server.url, ca=home / "ca.pem", **mine)
            )

        assert server.url.startswith("https:")
        stranger = by("stranger")
        assert "401" in stranger("build").stderr
        assert "403" in by("dev")("build").stderr
        assert by("ci").ran() == {"first", "second"}
        assert by("dev", "dev-later").ran() == set()
        without = builder(project, "without", remote(server.url, ca=home / "ca.pem"))
        assert without.ran() == {"first", "second"}
        mistrusting = builder(project, "mistrusting", remote(server.url))
        assert mistrusting.ran() == {"first", "second"}


# what is taken


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    made = SigningKey.generate("ci")
    made.write(tmp_path / "ci.key")
    return made


def trusting(url: str, *keys: SigningKey, required: int = 1) -> str:
    """Return a configuration that trusts only these keys."""
    trusted = json.dumps([str(one.public()) for one in keys])
    return f"[cache]\ntrusted_keys = {trusted}\nrequired_signatures = {required}\n{remote(url)}"


def test_without_keys_whoever_writes_first_is_believed(project: Bn, server: CacheServer) -> None:
    """What signatures are for: without them this is so, as everywhere."""
    _, false = truth(project)
    false.upload(server.url)
    victim = builder(project, "victim", remote(server.url))
    assert victim.ran() == {"second"}
    assert victim.result("second") == EVIL + EVIL


def test_what_nobody_signed_is_built_here(
    project: Bn, server: CacheServer, key: SigningKey
) -> None:
    _, first, second = lies(project)
    first.upload(server.url)
    second.upload(server.url)
    careful = builder(project, "careful", trusting(server.url, key))
    assert careful.ran() == {"first", "second"}
    assert careful.result("second") == RIGHT


def test_what_another_key_signed_is_built_here(
    project: Bn, server: CacheServer, key: SigningKey
) -> None:
    _, first, second = lies(project)
    first.upload(server.url, by=SigningKey.generate("other"))
    second.upload(server.url, by=SigningKey.generate("ci"))  # of the same name
    careful = builder(project, "careful", trusting(server.url, key))
    assert careful.ran() == {"first", "second"}
    assert careful.result("second") == RIGHT


def test_what_a_trusted_key_signed_is_taken_among_lies(
    project: Bn, server: CacheServer, key: SigningKey, tmp_path: Path
) -> None:
    ended, first, second = lies(project)
    first.upload(server.url)
    signing = f'[cache]\nsigning_key = "{tmp_path / "ci.key"}"\n'
    ci = builder(project, "ci", f"{signing}{remote(server.url, read=False)}")
    assert ci.ran() == {"first", "second"}
    for name in ("first", "second"):
        action = ended[name]["action"]
        answer = httpx.get(f"{server.url}/bn/v1/actions/{action}", trust_env=False)
        signed = [one["signatures"] for one in answer.json()["results"] if one["signatures"]]
        assert [one[0]["key"] for one in signed] == ["ci"]
    # the signatures of the truth, put under a lie
    recipe = second.realisation.recipe
    answer = httpx.get(f"{server.url}/bn/v1/realisations/{recipe}", trust_env=False)
    real = answer.json()["realisations"][0]
    copied = {
        "result": real["results"][0]["signatures"],
        "realisation": real["signatures"],
    }
    second.upload(server.url, signed=copied)
    careful = builder(project, "careful", trusting(server.url, key))
    assert careful.ran() == set()
    assert careful.result("second") == RIGHT
    two = builder(project, "two", trusting(server.url, key, SigningKey.generate("b"), required=2))
    assert two.ran() == {"first", "second"}


def test_who_takes_what_nobody_signed_signs_nothing_that_rests_on_it(
    project: Bn, server: CacheServer, key: SigningKey, tmp_path: Path
) -> None:
    """Else a careless signer would make others believe a lie."""
    _, first = truth(project)
    first.upload(server.url)
    signing = f'[cache]\nsigning_key = "{tmp_path / "ci.key"}"\n'
    careless = builder(project, "careless", f"{signing}{remote(server.url)}")
    assert careless.ran() == {"second"}
    careful = builder(project, "careful", trusting(server.url, key))
    assert careful.ran() == {"first", "second"}
    assert careful.result("second") == RIGHT
    # bn push does not sign what others built either
    careless("push")
    later = builder(project, "later", trusting(server.url, key))
    assert later.ran() == {"first", "second"}
    assert later.result("second") == RIGHT


def test_two_who_build_by_themselves_are_believed_where_two_are_required(
    project: Bn, server: CacheServer, tmp_path: Path
) -> None:
    keys = [SigningKey.generate(name) for name in ("a", "b")]
    careful = trusting(server.url, *keys, required=2)
    for key in keys:
        key.write(tmp_path / f"{key.name}.key")
        signing = f'[cache]\nsigning_key = "{tmp_path / key.name}.key"\n'
        one = builder(project, f"ci-{key.name}", f"{signing}{remote(server.url, read=False)}")
        assert builder(project, f"before-{key.name}", careful).ran() == {"first", "second"}
        assert one.ran() == {"first", "second"}
    assert builder(project, "after", careful).ran() == set()


def test_who_trusts_the_signer_takes_what_he_built(
    project: Bn, server: CacheServer, key: SigningKey, tmp_path: Path
) -> None:
    signing = f'[cache]\nsigning_key = "{tmp_path / "ci.key"}"\n'
    ci = builder(project, "ci", f"{signing}{remote(server.url)}")
    assert ci.ran() == {"first", "second"}
    done = builder(project, "dev", trusting(server.url, key)).json("build")
    assert {step["status"] for step in done["steps"].values()} == {"cached"}
    assert done["steps"].keys() == {"second"}, (
        "its realisation is signed, so nothing below is asked"
    )


# what is done about it


def test_a_lie_is_found_by_building_again(project: Bn, server: CacheServer) -> None:
    ended, false = truth(project)
    false.upload(server.url)
    victim = builder(project, "victim", remote(server.url))
    said = victim("build", "--verify-remote", "all", code=6).stderr
    for text in (
        "1 result from remote caches came out otherwise here",
        f"first: action {ended['first']['action']}",
        server.url,
        "not signed",
        f"remote: {digest_bytes(EVIL.encode())}",
        f"here:   {digest_bytes(b'first' + bytes([10]))}",
        "the same here twice",
        str(false.result.digest()),
    ):
        assert text in said, said
    assert not (victim.directory / "result").exists()
    # nothing of it is kept, nor taken again, nor what was made of it
    assert victim.ran() == {"first", "second"}
    assert victim.result("second") == RIGHT


def test_what_was_made_of_a_lie_is_not_given_to_others(project: Bn, server: CacheServer) -> None:
    ended, false = truth(project)
    false.upload(server.url)
    victim = builder(project, "victim", remote(server.url))
    victim("build", "--verify-remote", "1", code=6)
    made = get(server, f"realisations/{recipe_of(builder_of(project), ended['second']['action'])}")
    assert made == 404


def builder_of(project: Bn) -> Bn:
    """Return a builder that was made before."""
    directory = project.directory.parent / "honest" / "project"
    return Bn(directory, directory.parent / "store", project.env)


def test_a_lie_in_json(project: Bn, server: CacheServer) -> None:
    _, first, second = lies(project)
    first.upload(server.url)
    second.upload(server.url)
    victim = builder(project, "victim", remote(server.url))
    error = victim.json("build", "--verify-remote", "all", code=6)["error"]
    assert error["exit_code"] == 6
    by_label = {fault["label"]: fault for fault in error["faults"]}
    assert by_label.keys() == {"first", "second"}
    assert by_label["first"]["remote"] == server.url
    assert by_label["first"]["outputs"] == first.result.outputs
    assert by_label["first"]["differences"][0]["path"] == "first"
    assert victim.ran() == {"first", "second"}
    assert victim.result("second") == RIGHT


def test_what_a_lie_rests_on_need_not_be_there(project: Bn, server: CacheServer) -> None:
    """A liar cannot get by by keeping back what the lie would be checked with."""
    _, _, second = lies(project)
    second.upload(server.url)
    victim = builder(project, "victim", remote(server.url))
    said = victim("build", "--verify-remote", "all", code=6).stderr
    assert "second: action" in said
    assert victim.ran() == {"second"}
    assert victim.result("second") == RIGHT


def test_the_truth_passes(project: Bn, server: CacheServer) -> None:
    assert builder(project, "one", remote(server.url)).ran() == {"first", "second"}
    two = builder(project, "two", remote(server.url))
    done = two.json("build", "--verify-remote", "all")
    assert done["verified"] == {"labels": ["first", "second"], "of": 2}
    three = builder(project, "three", remote(server.url))
    said = three("build", "--verify-remote", "1").stderr
    assert "verified 1 of 2 results" in said
    four = builder(project, "four", remote(server.url))
    four("build", "--download", "all")
    assert "nothing to verify" in four("build", "--verify-remote", "1", "--no-link").stderr
    alone = builder(project, "alone")
    assert "no remote cache" in alone("build", "--verify-remote", "1", code=3).stderr
    for wrong in ("0", "x", "-1"):
        alone("build", "--verify-remote", wrong, code=2)


def test_an_action_that_is_not_reproducible_is_said_to_be(bn: Bn, server: CacheServer) -> None:
    bn.spec(
        """
        [actions.dice]
        tools = ["sh"]
        script = "cat /proc/sys/kernel/random/uuid > $out/dice; echo x > $out/same"
        outputs = ["dice", "same"]
        """,
        default="dice",
    )
    assert builder(bn, "one", remote(server.url)).ran() == {"dice"}
    two = builder(bn, "two", remote(server.url))
    said = two("build", "--verify-remote", "all", code=6).stderr
    assert "not reproducible" in said
    assert "    same\n" not in said
