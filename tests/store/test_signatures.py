"""Signatures: what one key signed, nothing else verifies."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.digest import digest_bytes
from store.errors import HostError, InputError
from store.objects import REALISATION, RESULT, TREE, ActionResult
from store.signatures import DOMAIN, PublicKey, Signature, SigningKey, message

GOLDEN = "/5jKolvdA1tlWz7GqXzYYf3PsSPG/N2qHuNivUbukFIX9akLY/PAOGGWUuReuTTTuFtucxtX9D10al9Q6qUaBA=="
A, B = digest_bytes(b"a"), digest_bytes(b"b")
KEY = SigningKey("k", bytes(range(32)))


def test_the_signed_bytes_are_as_written_down() -> None:
    expected = b"bn signature 1\0result.1\0" + bytes.fromhex(A)
    assert message(RESULT, A) == expected
    assert expected.startswith(DOMAIN)


def test_a_signature_of_a_known_key_stays_the_same() -> None:
    """RFC 8032 leaves no choice: with another value here no signature in the world would count."""
    assert str(KEY.public()) == "k:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    signed = KEY.sign(RESULT, digest_bytes(b"golden"))
    assert signed == Signature("k", GOLDEN)


@given(seed=st.binary(min_size=32, max_size=32), data=st.binary(max_size=64))
def test_only_this_key_kind_and_digest_verify(seed: bytes, data: bytes) -> None:
    key, digest = SigningKey("a", seed), digest_bytes(data)
    public, signed = PublicKey.parse(str(key.public())), key.sign(RESULT, digest)
    assert public.verifies(RESULT, digest, signed)
    assert not public.verifies(REALISATION, digest, signed)
    assert not public.verifies(RESULT, digest_bytes(data + b"."), signed)
    assert (
        not SigningKey("a", digest_bytes(seed).encode()[:32])
        .public()
        .verifies(RESULT, digest, signed)
    )


@given(bit=st.integers(0, 511))
def test_a_signature_with_another_bit_verifies_nothing(bit: int) -> None:
    data = bytearray(base64.b64decode(KEY.sign(RESULT, A).signature))
    data[bit // 8] ^= 1 << bit % 8
    assert not KEY.public().verifies(RESULT, A, Signature("k", base64.b64encode(data).decode()))


@pytest.mark.parametrize("text", ["", "x", "A" * 88, "é", "AAAA", "====", "\0"])
def test_what_is_no_signature(text: str) -> None:
    assert not KEY.public().verifies(RESULT, A, Signature("k", text))


def test_a_signature_has_one_spelling() -> None:
    text = KEY.sign(RESULT, A).signature
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for changed in (text + "\n", " " + text, text[:-3] + last[last.index(text[-3]) ^ 1] + "=="):
        assert not KEY.public().verifies(RESULT, A, Signature("k", changed))


@pytest.mark.parametrize("kind", [TREE, "action.1", "", "result.2"])
def test_nothing_else_is_signed(kind: str) -> None:
    with pytest.raises(ValueError, match="not signed"):
        KEY.sign(kind, A)


def test_all_of_a_result_is_signed() -> None:
    first = ActionResult(action=A, outputs=A, log=A)
    signed = KEY.sign(RESULT, first.digest())
    others = [
        ActionResult(action=B, outputs=A, log=A),
        ActionResult(action=A, outputs=B, log=A),
        ActionResult(action=A, outputs=A, log=B),
        ActionResult(action=A, outputs=A, log=A, observed=()),
    ]
    assert KEY.public().verifies(RESULT, first.digest(), signed)
    assert not any(KEY.public().verifies(RESULT, one.digest(), signed) for one in others)


def test_a_key_comes_back_from_its_file(tmp_path: Path) -> None:
    key = SigningKey.generate("ci-1")
    path = tmp_path / "keys" / "ci-1"
    key.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["ci-1"]
    assert SigningKey.read(path) == key
    assert PublicKey.parse(str(key.public())) == key.public()
    with pytest.raises(InputError, match="there already"):
        SigningKey.generate("ci-1").write(path)
    assert SigningKey.read(path) == key


def test_a_key_does_not_show_itself(tmp_path: Path) -> None:
    key = SigningKey.generate("x")
    key.write(tmp_path / "x")
    secret = (tmp_path / "x").read_text().partition(":")[2].strip()
    for text in (repr(key), str(key), repr(key.public())):
        assert secret not in text
        assert repr(base64.b64decode(secret)[:32])[2:-1] not in text


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    SigningKey.generate("x").write(tmp_path / "x")
    with pytest.raises(InputError, match="private key") as caught:
        PublicKey.parse((tmp_path / "x").read_text())
    assert (tmp_path / "x").read_text().partition(":")[2].strip() not in caught.value.render()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    SigningKey.generate("x").write(tmp_path / "x")
    os.chmod(tmp_path / "x", mode)
    with pytest.raises(HostError, match="lets others"):
        SigningKey.read(tmp_path / "x")


@pytest.mark.parametrize(
    "text", ["", "x", "x:", "x:!!", ":AAAA", "a b:AAAA", "x:AAAA", f"x:{'A' * 86}==", "\udcff"]
)
def test_what_is_no_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        PublicKey.parse(text)
    path = tmp_path / "x"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o600)
    with pytest.raises(InputError):
        SigningKey.read(path)


def test_a_key_whose_halves_do_not_fit_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(f"x:{base64.b64encode(bytes(64)).decode()}\n")
    path.chmod(0o600)
    with pytest.raises(InputError, match="no private key"):
        SigningKey.read(path)


def test_no_key_file_is_the_hosts_fault(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no such file"):
        SigningKey.read(tmp_path / "none")
    with pytest.raises(HostError, match="regular"):
        SigningKey.read(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "-x", "a:b", "a/b", "x" * 65])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(InputError):
        SigningKey.generate(name)


def test_cryptography_is_loaded_only_to_sign_or_to_check() -> None:
    code = "import sys, store.signatures; sys.exit('cryptography' in sys.modules)"
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
