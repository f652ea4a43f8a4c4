"""Remotes that are slow, down, lying or full: given up, told once, and nothing wrong is kept."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import zstandard

from engine.remote import client
from store.digest import digest_bytes
from store.objects import Directory
from store.verify import verify
from tests.engine.remote.conftest import Machine, digest_of, recipe
from tests.engine.remote.fake import Fake, Handler

pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")

Machines = Callable[..., Machine]
FILES = {"a": b"some bytes", "b/c": b"others"}


def on(what: str, act: Callable[[Handler], Any]) -> Callable[[Handler], bool]:
    """Return the fault that does `act` when asked for `what`."""

    def fault(handler: Handler) -> bool:
        if not handler.what.startswith(what):
            return False
        act(handler)
        return True

    return fault


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience than usual."""
    monkeypatch.setattr(client, "FIRST_BYTE_SECONDS", 0.5)
    monkeypatch.setattr(client, "STORE_SECONDS", 0.5)
    monkeypatch.setattr(client, "WINDOW_SECONDS", 0.5)


def stay(handler: Handler) -> None:
    """Say nothing for longer than anybody waits."""
    threading.Event().wait(5)


def trickle(handler: Handler) -> None:
    """Say something, a byte at a time."""
    handler.send_response(200)
    handler.send_header("content-length", "100000")
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        threading.Event().wait(0.1)


def hang_up(handler: Handler) -> None:
    """Close the connection in the middle of an answer."""
    handler.send_response(200)
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


DENSE = zstandard.ZstdCompressor().compress(bytes(2**29))
"""Half a gigabyte, packed."""

ANSWERS: dict[str, tuple[Callable[[Handler], Any], str]] = {
    "401": (lambda h: h.send(401, b"who?", "text/plain"), "it wants a token (401)"),
    "403": (lambda h: h.send(403, b"{}"), "it does not allow that (403)"),
    "404": (lambda h: h.send(404, b""), "it speaks no protocol of bn's (404)"),
    "429": (lambda h: h.send(429, b"", retry_after="60"), "it has too many requests (429)"),
    "500": (lambda h: h.send(500, b'{"error": "oh"}'), "oh (500)"),
    "503": (lambda h: h.send(503, b"", retry_after="0"), "it is busy (503)"),
    "redirect": (lambda h: h.send(302, b"", location="/"), "an answer that no cache gives (302)"),
    "html": (lambda h: h.send(200, b"<html>"), "not to be believed: its answer is no JSON"),
    "list": (lambda h: h.send(200, b"[]"), "its answer is no JSON object"),
    "deep": (lambda h: h.send(200, b"[" * 200_000), "its answer is no JSON"),
    "other": (lambda h: h.send(200, b"{}"), "its answer holds no realisations"),
    "gzip": (lambda h: h.send(200, b"", content_encoding="gzip"), "it is encoded as gzip"),
    "no zstd": (lambda h: h.send(200, b"{}", content_encoding="zstd"), "it is no zstd"),
    "dense": (lambda h: h.send(200, DENSE, content_encoding="zstd"), "its answer does not end"),
    "hang up": (hang_up, "peer closed connection"),
    "slow": (stay, "it is too slow"),
    "trickle": (trickle, "it is too slow"),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ANSWERS)
def test_a_remote_without_a_good_answer_is_given_up(
    fake: Fake, machine: Machines, name: str
) -> None:
    act, reason = ANSWERS[name]
    fake.fault = on("realisations:get", act)
    one = machine(fake)

    assert one.find("x") == {}

    told = one.given_up()
    assert len(told) == 1
    assert reason in told[0]
    assert not one.remotes.readable
    before = len(fake.asked)
    assert one.find("x") == {}
    assert len(fake.asked) == before
    assert one.given_up() == []


def test_a_remote_that_is_down_is_given_up(machine: Machines) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fake = Fake()
    fake.url = f"http://127.0.0.1:{port}"
    one = machine(fake)
    assert one.find("x") == {}
    assert one.given_up() == ["reading: connection refused"]


def test_the_next_remote_is_asked_instead(fake: Fake, other: Fake, machine: Machines) -> None:
    machine(other).give("x", FILES)
    fake.fault = on("", lambda handler: handler.send(500, b""))
    both = machine(fake, other)
    assert list(both.find("x")) == [recipe("x")]


def test_a_remote_that_is_busy_for_a_moment_is_asked_again(fake: Fake, machine: Machines) -> None:
    machine(fake).give("x", FILES)
    busy = [True]

    def fault(handler: Handler) -> bool:
        if busy:
            busy.clear()
            handler.send(503, b"", retry_after="0")
            return True
        return False

    fake.fault = fault
    one = machine(fake)
    assert list(one.find("x")) == [recipe("x")]
    assert one.given_up() == []


def wrong_bytes(handler: Handler) -> None:
    """Send other bytes than were asked for, of the same length."""
    fake = handler.fake
    before = dict(fake.blobs)
    asked = set(json.loads(handler.data)["digests"])
    body = b"".join(
        b"%s %d\n%s" % (digest.encode(), len(data), bytes(len(data)))
        for digest, data in before.items()
        if digest in asked
    )
    handler.send(200, body, "application/x-bn-blobs")


def wrong_length(handler: Handler) -> None:
    """Send more bytes than a blob has."""
    for digest in json.loads(handler.data)["digests"]:
        body = b"%s %d\n%s" % (digest.encode(), 10**6, bytes(10**6))
        handler.send(200, body, "application/x-bn-blobs")
        return


def endless(handler: Handler) -> None:
    """Send what nobody asked for."""
    data = b"unasked"
    body = b"%s %d\n%s" % (digest_bytes(data).encode(), len(data), data)
    handler.send(200, body * 1000, "application/x-bn-blobs")


@pytest.mark.parametrize("lie", [wrong_bytes, wrong_length, endless, hang_up])
def test_bytes_that_are_not_what_their_digest_says_are_not_kept(
    fake: Fake, machine: Machines, lie: Callable[[Handler], None]
) -> None:
    one, two = machine(fake), machine(fake)
    result = one.give("x", FILES)
    two.find("x")
    fake.fault = on("blobs:get", lie)

    two.remotes.bring([Directory(result.outputs)])

    assert len(two.given_up()) == 1
    assert not two.has(result)
    assert two.store.actions.realisation(recipe("x")) is None
    two.store.actions.commit()
    assert verify(two.store).sound is False or not two.store.cas.is_here(digest_bytes(b"unasked"))


@pytest.mark.parametrize("what", ["tree", "missing tree", "result", "other action"])
def test_documents_that_do_not_fit_are_not_believed(
    fake: Fake, machine: Machines, what: str
) -> None:
    one, two = machine(fake), machine(fake)
    result = one.give("x", FILES)
    offered = fake.realisations[recipe("x")][0]
    if what == "tree":
        tree = json.loads(fake.blobs[result.outputs])
        tree["entries"]["more"] = {"file": digest_of("more"), "size": 1}
        fake.blobs[result.outputs] = json.dumps(tree).encode()
    elif what == "missing tree":
        del fake.blobs[result.outputs]
    elif what == "result":
        offered["results"][0]["result"]["outputs"] = "no digest"
    else:
        offered["results"][0]["result"]["action"] = digest_of("other")

    assert two.find("x") == {}

    assert len(two.given_up()) == (what != "missing tree")
    assert two.store.actions.result_of(digest_of("x")) is None


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "it wants a token"), (403, "it does not allow that"), (507, "it is full")],
)
def test_a_remote_that_takes_nothing_can_still_be_read(
    fake: Fake, machine: Machines, status: int, reason: str
) -> None:
    machine(fake).give("x", FILES)
    fake.fault = on("blobs:put", lambda handler: handler.send(status, b""))
    one = machine(fake)
    result = one.make("y", {"y": b"y"})

    one.remotes.built(result, [recipe("y")])

    assert one.remotes.wait_for_uploads(30)
    assert one.given_up() == [f"writing: {reason} ({status})"]
    assert one.remotes.given() == (0, 0, 1)
    assert digest_of("y") not in fake.actions
    assert not one.remotes.writable
    assert list(one.find("x")) == [recipe("x")]
    asked = len(fake.asked)
    one.remotes.built(result, [recipe("y")])
    assert one.remotes.given() == (0, 0, 2), "what came later was not uploaded, either"
    assert len(fake.asked) == asked


def test_a_blob_that_is_too_large_for_a_remote_keeps_back_its_result_alone(
    fake: Fake, machine: Machines
) -> None:
    def too_large(handler: Handler) -> bool:
        if handler.what == "blobs:put" and b"huge" in handler.data:
            handler.send(413, b"")
            return True
        return False

    fake.fault = too_large
    one = machine(fake)
    one.give("x", {"x": b"huge"})
    one.give("y", {"y": b"y"})

    assert one.remotes.given() == (0, 1, 1)
    assert set(fake.actions) == {digest_of("y")}
    assert one.given_up() == []


@pytest.mark.usefixtures("quick")
def test_uploads_to_a_remote_that_stops_do_not_go_on_for_ever(
    fake: Fake, machine: Machines
) -> None:
    fake.fault = on("blobs:put", stay)
    one = machine(fake)
    one.remotes.built(one.make("x", FILES), [recipe("x")])
    assert one.remotes.wait_for_uploads(30)
    assert one.given_up() == ["writing: it is too slow"]


def test_closing_ends_what_goes_on(fake: Fake, machine: Machines) -> None:
    fake.fault = on("blobs:put", stay)
    one = machine(fake)
    one.remotes.built(one.make("x", FILES), [recipe("x")])
    assert not one.remotes.wait_for_uploads(0.1)
    assert one.remotes.given()[0] == 1
    one.remotes.close()
