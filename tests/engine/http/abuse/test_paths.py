"""Huge heads, and paths that lead elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.http.abuse.live import Live

SECRET = b"nobody is to see this"

TRAVERSALS = [
    "/../secret",
    "/../../../../../../../../etc/passwd",
    "/x/../../secret",
    "/x/../../../../../../../../../../etc/passwd",
    "/%2e%2e/secret",
    "/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/..%2fsecret",
    "/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
    "/.%2e/secret",
    "/%252e%252e/secret",
    "/%252e%252e%252fsecret",
    "/..%c0%afsecret",
    "/%c0%ae%c0%ae/secret",
    "/..%e0%80%afsecret",
    "/%e0%80%ae%e0%80%ae/secret",
    "/..%5csecret",
    "/..\\secret",
    "/....//secret",
    "/..;/secret",
    "/./../secret",
    "//../secret",
    "///etc/passwd",
    "//etc/passwd",
    "/%2fetc%2fpasswd",
    "/%00/../secret",
    "/secret%00.txt",
    "/x%0d%0aa:%20b",
    "/x%0aa",
    "/\u2025/secret",
    "/%u002e%u002e/secret",
    "/~root/secret",
    "/..",
    "/.",
    "/%",
    "/%2",
    "/%zz",
    "/ac/../../secret",
    "/cas/../../../secret",
    "/cas/..%2f..%2fsecret",
    "/ns/../../secret",
    "/ns/..%2f..%2fsecret/x",
    "/ns/%2e%2e/x",
    "/ns//x",
    "/ns/a%2fb/x",
    "/ns/.hidden/x",
    "/bn/v1/blobs/../../../secret",
    "/bn/v1/blobs/..%2f..%2f..%2fsecret",
    "/v8/artifacts/..%2f..%2fsecret",
    "/v1/cache/..%2f..%2fsecret",
    "/nar/..%2f..%2fsecret",
    "/format",
    "/serve/tokens.json",
    "/store/format",
    "/entries/data.mdb",
    "/blobs/00",
    "/x?y=../../secret",
    "/x?" + "&".join(f"{n}=1" for n in range(1000)),
    "/x?%ff%fe",
]


def everything(live: Live) -> set[Path]:
    """Return all that is beside the store."""
    return {path for path in live.place.rglob("*") if not path.is_relative_to(live.root)}


def raw(live: Live, method: bytes, path: str, body: bytes = b"") -> int:
    """Ask with a path as it is written; return the status."""
    with live.client() as client:
        client.send(
            method + b" " + path.encode() + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        )
        client.send(b"content-length: %d\r\n\r\n" % len(body) + body)
        (answer,) = client.answers()
    assert SECRET not in answer.body
    assert b"root:" not in answer.body
    assert str(live.place) not in answer.text
    assert "\n" not in "".join(answer.headers.values())
    return answer.status


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_out_of_the_store(live: Live, path: str) -> None:
    (live.place / "secret").write_bytes(SECRET)
    before = everything(live)
    assert raw(live, b"GET", path) in (400, 404, 405)
    status = raw(live, b"PUT", path, b"overwritten")
    assert status in (200, 201, 400, 403, 404, 405, 409), status
    raw(live, b"MKCOL", path)
    raw(live, b"PROPFIND", path)
    raw(live, b"DELETE", path)
    assert (live.place / "secret").read_bytes() == SECRET
    assert everything(live) == before


def test_name_spaces_do_not_leak_by_path(live: Live) -> None:
    assert live.ask("PUT", "/ns/secret/x/a", b"theirs").status == 200
    for path in (
        "/x/a",
        "/ns/other/x/a",
        "/ns/other/../secret/x/a",
        "/ns/other/x/../../secret/x/a",
    ):
        found = live.ask("GET", path)
        if found.status == 200:  # `..` is resolved first, so that this path names that name space
            assert path.endswith("../secret/x/a")
        else:
            assert found.status in (400, 404)


@pytest.mark.parametrize(
    ("what", "data", "statuses"),
    [
        ("a header", b"GET /x HTTP/1.1\r\nhost: x\r\na: " + b"b" * 200_000 + b"\r\n\r\n", [431]),
        ("a name", b"GET /x HTTP/1.1\r\nhost: x\r\n" + b"b" * 200_000 + b": a\r\n\r\n", [431]),
        ("headers", b"GET /x HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 50_000 + b"\r\n", [431]),
        (
            "small headers",
            b"GET /x HTTP/1.1\r\nhost: x\r\n" + b"a:\r\n" * 101 + b"\r\n",
            [431],
        ),
        (
            "names",
            b"GET /x HTTP/1.1\r\nhost: x\r\n"
            + b"".join(b"a%d: b\r\n" % n for n in range(500))
            + b"\r\n",
            [431],
        ),
        ("a target", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", [414, 431]),
        ("a query", b"GET /?" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", [414, 431]),
        ("a method", b"G" * 200_000 + b" / HTTP/1.1\r\nhost: x\r\n\r\n", [400, 414, 431, 501]),
        ("a version", b"GET / HTTP/1." + b"1" * 200_000 + b"\r\nhost: x\r\n\r\n", [400, 414, 431]),
        ("blank lines", b"\r\n" * 200_000 + b"BREW / HTTP/1.1\r\nhost: x\r\n\r\n", [400, 431, 501]),
        ("no end", b"a" * 1_000_000, [400, 414, 431]),
    ],
)
def test_huge_heads(live: Live, what: str, data: bytes, statuses: list[int]) -> None:
    before = live.memory()
    with live.client() as client:
        client.send(data)
        answers = client.answers()
    assert [answer.status in statuses for answer in answers] == [True], (what, answers)
    assert answers[0].headers["connection"] == "close"
    assert live.memory() - before < 8 * 2**20


def test_a_target_that_is_too_long_in_a_head_that_is_not(live: Live) -> None:
    with live.client() as client:
        client.send(b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert [answer.status for answer in client.answers()] == [414]


def test_a_head_of_nearly_the_limit_is_taken(live: Live) -> None:
    with live.client() as client:
        client.send(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\na: ")
        client.send(b"b" * 32_000 + b"\r\n\r\n")
        assert [answer.status for answer in client.answers()] == [404]


def test_keys_are_as_long_as_they_may_be(live: Live) -> None:
    for length, statuses in ((200, (200,)), (4000, (200, 400, 414)), (8000, (200, 400, 414))):
        path = f"/x/{'k' * length}"
        status = live.ask("PUT", path, b"long").status
        assert status in statuses
        assert live.ask("GET", path).status == (
            200 if status == 200 else 404 if status == 400 else 414
        )
