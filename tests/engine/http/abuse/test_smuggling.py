"""Requests that two programs in a row could read differently: refused, and nothing after them is
taken for a request."""

from __future__ import annotations

import hashlib

import pytest

from tests.engine.http.abuse.live import Live

NEXT = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
PUT = b"PUT /x/smuggling HTTP/1.1\r\nhost: x\r\n"

LENGTHS = {
    "CL.TE": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE.CL": b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "CL.TE zero": b"content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE.TE": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "TE.TE twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE list": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE list first": b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE unknown": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "TE identity": b"transfer-encoding: identity\r\n\r\n",
    "TE space before colon": b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE vertical tab": b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE quoted": b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "TE behind LF": b"a: b\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE behind CR": b"a: b\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE folded": b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "CL differ": b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "CL twice": b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "CL list": b"content-length: 5, 5\r\n\r\nhello",
    "CL plus": b"content-length: +5\r\n\r\nhello",
    "CL minus": b"content-length: -1\r\n\r\nhello",
    "CL hexadecimal": b"content-length: 0x5\r\n\r\nhello",
    "CL spaces": b"content-length: 5 0\r\n\r\nhello",
    "CL empty": b"content-length:\r\n\r\nhello",
    "CL letters": b"content-length: five\r\n\r\nhello",
    "CL underscore": b"content-length: 1_0\r\n\r\nhello",
    "CL other digits": "content-length: \u0665\r\n\r\nhello".encode(),
    "CL huge": b"content-length: 99999999999999999999\r\n\r\nhello",
    "CL NUL": b"content-length: 5\0\r\n\r\nhello",
    "CL space before colon": b"content-length : 5\r\n\r\nhello",
    "CL folded": b"content-length:\r\n 5\r\n\r\nhello",
    "chunk not hexadecimal": b"transfer-encoding: chunked\r\n\r\ng\r\nhello\r\n0\r\n\r\n",
    "chunk prefix": b"transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk minus": b"transfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "chunk plus": b"transfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk space before": b"transfer-encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
    "chunk underscore": b"transfer-encoding: chunked\r\n\r\n0_5\r\nhello\r\n0\r\n\r\n",
    "chunk empty": b"transfer-encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    "chunk overflow": b"transfer-encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunk endless zeros": b"transfer-encoding: chunked\r\n\r\n" + b"0" * 5000 + b"5\r\nhello",
    "chunk longer": b"transfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
    "chunk shorter": b"transfer-encoding: chunked\r\n\r\n5\r\nhell\r\n0\r\n\r\n",
    "chunk LF": b"transfer-encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    "chunk LF after size": b"transfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "chunk LF after data": b"transfer-encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
    "chunk CR after size": b"transfer-encoding: chunked\r\n\r\n5\rXhello\r\n0\r\n\r\n",
    "chunk extension LF": b"transfer-encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "chunk extension NUL": b"transfer-encoding: chunked\r\n\r\n5;a\0b\r\nhello\r\n0\r\n\r\n",
    "chunk extension endless": b"transfer-encoding: chunked\r\n\r\n5;" + b"a" * 100_000,
    "chunk trailer no header": b"transfer-encoding: chunked\r\n\r\n0\r\nno header\r\n\r\n",
    "chunk trailer LF": b"transfer-encoding: chunked\r\n\r\n0\r\na: b\n\r\n",
    "chunk trailers endless": b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 20_000,
}

HEADS = {
    "folded": b"GET /x HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
    "folded with a tab": b"GET /x HTTP/1.1\r\nhost: x\r\na: b\r\n\tc\r\n\r\n",
    "folded first": b"GET /x HTTP/1.1\r\n host: x\r\n\r\n",
    "LF alone": b"GET /x HTTP/1.1\nhost: x\n\n",
    "LF within": b"GET /x HTTP/1.1\r\nhost: x\na: b\r\n\r\n",
    "LF at the end": b"GET /x HTTP/1.1\r\nhost: x\r\n\n",
    "CR within a value": b"GET /x HTTP/1.1\r\nhost: x\r\na: b\rc\r\n\r\n",
    "CR before the name": b"GET /x HTTP/1.1\r\nhost: x\r\n\ra: b\r\n\r\n",
    "NUL in a value": b"GET /x HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n",
    "NUL in a name": b"GET /x HTTP/1.1\r\nhost: x\r\na\0b: c\r\n\r\n",
    "NUL in the target": b"GET /x\0y HTTP/1.1\r\nhost: x\r\n\r\n",
    "NUL first": b"\0GET /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "no name": b"GET /x HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n",
    "no colon": b"GET /x HTTP/1.1\r\nhost: x\r\nabc\r\n\r\n",
    "space in a name": b"GET /x HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n",
    "space after a name": b"GET /x HTTP/1.1\r\nhost : x\r\n\r\n",
    "brackets in a name": b"GET /x HTTP/1.1\r\nhost: x\r\na[b]: c\r\n\r\n",
    "letters beyond ASCII in a name": "GET /x HTTP/1.1\r\nhost: x\r\nä: c\r\n\r\n".encode(),
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /x HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    "no such host": b"GET /x HTTP/1.1\r\nhost: x/../y\r\n\r\n",
    "host with a user": b"GET /x HTTP/1.1\r\nhost: a@x\r\n\r\n",
    "authority alone": b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
    "HTTP/0.9": b"GET /x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET /x HTTP/1.2\r\nhost: x\r\n\r\n",
    "HTTP/11": b"GET /x HTTP/11\r\nhost: x\r\n\r\n",
    "HTTP/1.1x": b"GET /x HTTP/1.1x\r\nhost: x\r\n\r\n",
    "small letters": b"GET /x http/1.1\r\nhost: x\r\n\r\n",
    "two spaces": b"GET  /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "a tab": b"GET\t/x HTTP/1.1\r\nhost: x\r\n\r\n",
    "a space in the target": b"GET /x y HTTP/1.1\r\nhost: x\r\n\r\n",
    "not a method": b"BREW /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "small method": b"get /x HTTP/1.1\r\nhost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    "binary": bytes(range(256)) + b"\r\n\r\n",
    "TE in HTTP/1.0": b"PUT /x/a HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
}

TARGETS = {
    "another host": b"GET http://y/x HTTP/1.1\r\nhost: x\r\n\r\n",
    "another scheme": b"GET file:///x HTTP/1.1\r\nhost: x\r\n\r\n",
    "a fragment": b"GET /x#y HTTP/1.1\r\nhost: x\r\n\r\n",
}
"""Refused, though it is clear where they end."""


def refused(live: Live, data: bytes) -> int:
    """Send it, with a request behind it that must not be taken for one; return the status."""
    with live.client() as client:
        client.send(data + NEXT)
        answers = client.answers()
    assert len(answers) == 1, answers
    answer = answers[0]
    assert 400 <= answer.status < 600, answer
    assert answer.status not in (500, 502), answer
    assert answer.headers["connection"] == "close"
    assert answer.body, "it says why"
    return answer.status


@pytest.mark.parametrize("name", LENGTHS)
def test_where_a_body_ends_is_never_in_doubt(live: Live, name: str) -> None:
    assert refused(live, PUT + LENGTHS[name]) in (400, 413, 431, 501)
    assert live.ask("GET", "/x/smuggling").status == 404


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_read_in_one_way_or_not_at_all(live: Live, name: str) -> None:
    assert refused(live, HEADS[name]) in (400, 405, 431, 501, 505)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_of_this_server(live: Live, name: str) -> None:
    with live.client() as client:
        client.send(TARGETS[name] + b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert [answer.status for answer in client.answers()] == [400, 404]


def test_what_was_refused_is_in_the_log(live: Live) -> None:
    data = b"PUT /x/told HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
    assert refused(live, data) == 400
    (line,) = live.logged("/x/told")
    assert line["status"] == 400
    assert "chunk" in line["why"]


def test_nothing_smuggled_was_taken_for_a_request(live: Live) -> None:
    """It runs after the others of this module, on the same server."""
    live.ask("GET", "/x/marker")
    live.logged("/x/marker")
    assert "/smuggled" not in live.log.read_text()


def test_the_body_of_a_get_is_no_request(live: Live) -> None:
    with live.client() as client:
        size = b"%d" % len(NEXT)
        client.send(b"GET /x/a HTTP/1.1\r\nhost: x\r\ncontent-length: " + size + b"\r\n\r\n" + NEXT)
        client.send(b"GET /x/last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = client.answers()
    assert [answer.status for answer in answers] == [404, 404]
    live.logged("/x/last")
    assert "/smuggled" not in live.log.read_text()


def test_the_body_of_a_refused_upload_is_no_request(live: Live) -> None:
    key = hashlib.sha256(b"something else").hexdigest().encode()
    with live.client() as client:
        client.send(b"PUT /cas/" + key + b" HTTP/1.1\r\nhost: x\r\n")
        client.send(b"content-length: %d\r\n\r\n" % len(NEXT) + NEXT)
        client.send(b"GET /x/last2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = client.answers()
    assert [answer.status for answer in answers] == [400, 404]
    live.logged("/x/last2")
    assert "/smuggled" not in live.log.read_text()


def test_pipelined_requests_are_answered_in_order(live: Live) -> None:
    parts = []
    for number in range(50):
        body = b"%d" % number
        parts.append(b"PUT /x/p%d HTTP/1.1\r\nhost: x\r\n" % number)
        if number % 2:
            parts.append(b"content-length: %d\r\n\r\n" % len(body) + body)
        else:
            parts.append(b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(body) + body)
            parts.append(b"\r\n0\r\n\r\n")
        parts.append(b"GET /x/p%d HTTP/1.1\r\nhost: x\r\n\r\n" % number)
    parts.append(b"GET /x/none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    with live.client() as client:
        client.send(b"".join(parts))
        answers = client.answers()
    assert [answer.body for answer in answers[1:-1:2]] == [b"%d" % n for n in range(50)]
    assert answers[-1].status == 404


def test_what_is_allowed_is_taken(live: Live) -> None:
    for number, rest in enumerate(
        (
            b"transfer-encoding:\tchunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"Transfer-Encoding: Chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n",
            b'transfer-encoding: chunked\r\n\r\n5;a="b"\r\nhello\r\n0;c\r\nx: y\r\n\r\n',
            b"content-length: 005\r\n\r\nhello",
        )
    ):
        path = b"/x/allowed%d" % number
        with live.client() as client:
            client.send(
                b"\r\nPUT " + path + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + rest
            )
            assert [answer.status for answer in client.answers()] == [200], rest
        assert live.ask("GET", path.decode()).body == b"hello"
