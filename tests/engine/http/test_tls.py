"""TLS: contexts that follow their files, and who a client's certificate is; real handshakes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from engine.http.message import ANYBODY, Identity, Scope
from engine.http.tls import Client, Contexts, Tls, names_of
from store.errors import HostError, InputError

CLIENTS = (
    Client(name="ci", match=("O:Example", "DNS:*.ci.example.org"), scope="write"),
    Client(name="boss", match=("CN:boss",), scope="admin", name_spaces=("team",)),
    Client(name="mail", match=("email:*@example.org",)),
)


def write(ca: trustme.CA, to: Path, *names: str) -> None:
    """Write a server's certificate and key."""
    made = ca.issue_cert(*(names or ("localhost",)))
    (to / "server.key").write_bytes(made.private_key_pem.bytes())
    (to / "server.pem").write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))


@pytest.fixture
def ca(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    write(made, tmp_path)
    return made


@pytest.fixture
def settings(tmp_path: Path, ca: trustme.CA) -> Callable[..., Tls]:
    def make(**more: Any) -> Tls:
        files = {"certificate": tmp_path / "server.pem", "key": tmp_path / "server.key"}
        return Tls(**{**files, "client_ca": tmp_path / "clients.pem", **more})

    return make


def shake(contexts: Contexts, trusted: trustme.CA, shown: trustme.LeafCert | None = None) -> Any:
    """Connect, and return what the server knows of the client and the server's certificate."""
    ours, theirs = socket.socketpair()
    client = ssl.create_default_context()
    client.check_hostname = False
    trusted.configure_trust(client)
    if shown is not None:
        shown.configure_cert(client)
    seen: list[Any] = []

    def serve() -> None:
        try:
            with contexts.current().wrap_socket(ours, server_side=True) as wrapped:
                seen.append(wrapped.getpeercert())
                wrapped.sendall(b"x")
        except (ssl.SSLError, OSError) as error:
            seen.append(error)
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(theirs, server_hostname="localhost") as wrapped:
            wrapped.recv(1)  # with TLS 1.3 a refusal of the client comes late
            certificate = wrapped.getpeercert()
    finally:
        thread.join()
        theirs.close()
    return seen[0], certificate


def test_a_certificate_is_who_the_first_rule_says(settings: Callable[..., Tls], ca: Any) -> None:
    contexts = Contexts(settings(clients=CLIENTS, require_client=True))

    def who(*names: str, **more: str) -> Identity:
        certificate, _ = shake(contexts, ca, ca.issue_cert(*names, **more))
        return contexts.identity(certificate)

    writer = Identity("ci", Scope.WRITE)
    assert who("a.ci.example.org", organization_name="Example") == writer
    assert who("a.ci.example.org", organization_name="Other") is ANYBODY
    assert who("ci.example.org", organization_name="Example") is ANYBODY
    assert who("x.org", common_name="boss") == Identity("boss", Scope.ADMIN, frozenset({"team"}))
    assert who("boss", organization_unit_name="CN:boss") is ANYBODY
    assert who("me@example.org") == Identity("mail", Scope.READ)


def test_a_client_without_a_certificate(settings: Callable[..., Tls], ca: Any) -> None:
    seen, _ = shake(Contexts(settings()), ca)
    assert not seen
    seen, _ = shake(Contexts(settings(client_ca=None)), ca, ca.issue_cert("x.org"))
    assert not seen
    with pytest.raises(ssl.SSLError):
        shake(Contexts(settings(require_client=True)), ca)


def test_a_client_whom_somebody_else_signed(settings: Callable[..., Tls], ca: Any) -> None:
    stranger = trustme.CA().issue_cert("x.org", common_name="boss")
    for required in (False, True):
        with pytest.raises(ssl.SSLError):
            shake(Contexts(settings(require_client=required, clients=CLIENTS)), ca, stranger)


def test_old_protocols_are_refused(settings: Callable[..., Tls]) -> None:
    assert Contexts(settings()).current().minimum_version is ssl.TLSVersion.TLSv1_2


def test_new_files_are_taken_up(settings: Callable[..., Tls], ca: Any, tmp_path: Path) -> None:
    contexts = Contexts(settings(require_client=True))
    shown = ca.issue_cert("x.org")
    _, before = shake(contexts, ca, shown)
    first = contexts.current()
    assert contexts.current() is first
    write(ca, tmp_path, "other.example")
    _, after = shake(contexts, ca, shown)
    assert before["serialNumber"] != after["serialNumber"]
    assert ("DNS", "other.example") in after["subjectAltName"]
    # a signer who is taken out of the file counts no more
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    with pytest.raises(ssl.SSLError):
        shake(contexts, ca, shown)


def test_files_that_do_not_fit_leave_the_last_context(
    settings: Callable[..., Tls], ca: Any, tmp_path: Path
) -> None:
    contexts = Contexts(settings())
    first = contexts.current()
    key = (tmp_path / "server.key").read_bytes()
    (tmp_path / "server.key").write_bytes(ca.issue_cert("x").private_key_pem.bytes())
    assert contexts.current() is first
    assert "mismatch" in contexts.look()
    (tmp_path / "server.key").unlink()
    assert contexts.current() is first
    (tmp_path / "server.key").write_bytes(key)
    assert contexts.current() is not first
    assert contexts.look() == ""
    assert shake(contexts, ca)


def test_what_does_not_fit_from_the_beginning(
    settings: Callable[..., Tls], ca: Any, tmp_path: Path
) -> None:
    with pytest.raises(HostError, match="no such file"):
        Contexts(settings(certificate=tmp_path / "none"))
    with pytest.raises(InputError):
        Contexts(settings(certificate=tmp_path / "server.key"))
    with pytest.raises(InputError):
        Contexts(settings(client_ca=tmp_path / "server.key"))
    other = ca.issue_cert("x").private_key_pem
    other.write_to_path(str(tmp_path / "other.key"))
    with pytest.raises(InputError, match="mismatch"):
        Contexts(settings(key=tmp_path / "other.key"))


def test_an_encrypted_key_is_refused_without_asking(
    settings: Callable[..., Tls], tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    kind = (form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"secret"))
    (tmp_path / "server.key").write_bytes(key.private_bytes(*kind))
    with pytest.raises(InputError, match="encrypted"):
        Contexts(settings())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"client_ca": None, "require_client": True}, "client_ca"),
        ({"client_ca": None, "clients": CLIENTS}, "client_ca"),
        ({"clients": (Client(name="x", match=()),)}, "match"),
        ({"clients": (Client(name="x", match=("boss",)),)}, "match"),
        ({"clients": (Client(name="x", match=("CN:x",), scope="root"),)}, "scope"),
    ],
)
def test_rules_that_make_no_sense(
    settings: Callable[..., Tls], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Contexts(settings(**more))


def test_names_cannot_pass_for_others() -> None:
    certificate = {
        "subject": ((("commonName", "a"), ("countryName", "DE")), (("userId", "u"),)),
        "subjectAltName": (("DNS", "d"), ("CN", "boss"), ("URI", "spiffe://x/y"), ("DirName", "z")),
    }
    assert set(names_of(certificate)) == {"CN:a", "UID:u", "DNS:d", "URI:spiffe://x/y"}
