"""The commands that make keys and tokens, with the real bn."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.http.message import Scope
from engine.http.tokens import read_tokens, token_id
from store.digest import digest_bytes
from store.objects import RESULT
from store.signatures import PublicKey, SigningKey
from tests.e2e.conftest import Bn


@pytest.fixture
def home(cold_bn: Bn) -> Path:
    """The user's configuration directory, which is nobody's."""
    path = cold_bn.directory / "home"
    cold_bn.env = {**cold_bn.env, "XDG_CONFIG_HOME": str(path)}
    return path / "bn"


def test_a_key_is_made_kept_and_shown(cold_bn: Bn, home: Path) -> None:
    said = cold_bn("key", "generate", "ci-1")
    public = PublicKey.parse(said.stdout)
    path = home / "keys" / "ci-1"
    assert str(path) in said.stderr
    assert path.stat().st_mode & 0o777 == 0o600
    key = SigningKey.read(path)
    assert key.public() == public
    assert path.read_text().split(":")[1].strip() not in said.stdout + said.stderr
    for name in ("ci-1", str(path)):
        assert cold_bn("key", "show", name).stdout == said.stdout
    assert cold_bn.json("key", "show", "ci-1")["public"] == str(public)
    digest = digest_bytes(b"x")
    assert public.verifies(RESULT, digest, key.sign(RESULT, digest))


def test_a_key_is_never_overwritten(cold_bn: Bn, home: Path) -> None:
    cold_bn("key", "generate", "a")
    before = (home / "keys" / "a").read_text()
    assert "is there already" in cold_bn("key", "generate", "a", code=3).stderr
    assert (home / "keys" / "a").read_text() == before
    cold_bn("key", "generate", "a", "--out", "here")
    assert SigningKey.read(cold_bn.directory / "here").name == "a"


def test_the_key_that_signs_here_is_shown(cold_bn: Bn, home: Path) -> None:
    assert "bn key generate" in cold_bn("key", "show", code=3).stderr
    public = cold_bn.json("key", "generate", "mine", "--out", "mine.key")["public"]
    cold_bn.put("bn.toml", '[cache]\nsigning_key = "mine.key"\n')
    assert cold_bn("key", "show").stdout.strip() == public
    (cold_bn.directory / "mine.key").chmod(0o644)
    assert "chmod 600" in cold_bn("key", "show", code=4).stderr


@pytest.mark.parametrize("name", ["a b", "../x", ""])
def test_names_of_keys_are_plain(cold_bn: Bn, home: Path, name: str) -> None:
    assert "cannot be the name" in cold_bn("key", "generate", name, code=3).stderr


def test_a_token_is_made_listed_and_removed(cold_bn: Bn, home: Path) -> None:
    add = ("serve", "token", "add")
    text = cold_bn(*add, "ci", "--scope", "write", "--name-space", "a", "--name-space", "b").stdout
    path = cold_bn.store / "serve" / "tokens.json"
    row = read_tokens(path)[token_id(text.strip()) or ""]
    assert row.proves(text.strip())
    assert row.identity.scope is Scope.WRITE
    assert row.name_spaces == ("a", "b")
    assert path.stat().st_mode & 0o777 == 0o600
    made = cold_bn.json(*add, "me", "--expires", "90d")
    assert made["scope"] == "read"
    assert 89 * 86400 < made["expires"] - time.time() < 91 * 86400
    assert "is a token 'ci' already" in cold_bn(*add, "ci", code=3).stderr
    listed = cold_bn("serve", "token", "list").stdout
    assert "write in a, b" in listed
    assert "read everywhere, expires" in listed
    assert text.strip() not in listed
    assert row.hash not in listed
    names = [one["name"] for one in cold_bn.json("serve", "token", "list")]
    assert names == ["ci", "me"]
    cold_bn("serve", "token", "remove", "ci", made["id"])
    assert read_tokens(path) == {}
    assert "no token 'ci'" in cold_bn("serve", "token", "remove", "ci", code=3).stderr


def test_tokens_are_where_the_configuration_says(cold_bn: Bn, home: Path) -> None:
    cold_bn.put("etc/serve.toml", '[serve]\ntokens = "tokens.json"\n')
    text = cold_bn("serve", "token", "add", "x", "--config", "etc/serve.toml").stdout.strip()
    assert token_id(text) in read_tokens(cold_bn.directory / "etc" / "tokens.json")
    assert cold_bn.json("serve", "token", "list") == []
    listed = cold_bn.json("serve", "--config", "etc/serve.toml", "token", "list")
    assert [one["name"] for one in listed] == ["x"]
    cold_bn("serve", "--store", "other", "token", "add", "y")
    assert (cold_bn.directory / "other" / "serve" / "tokens.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--scope", "root"], 2), (["--expires", "soon"], 2), (["--name-space", "a/b"], 3)],
)
def test_tokens_that_make_no_sense(
    cold_bn: Bn, home: Path, arguments: list[str], code: int
) -> None:
    cold_bn("serve", "token", "add", "x", *arguments, code=code)
    assert not (cold_bn.store / "serve" / "tokens.json").exists()
