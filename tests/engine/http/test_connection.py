"""Connections: requests and answers byte by byte, over a server in this process."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from tests.engine.http.wire import BLOB, GET, Serve


async def test_one_connection_serves_all_kinds_of_answers(serve: Serve) -> None:
    async with serve() as running, running.peer() as peer:
        for _ in range(2):
            status, headers, content = await peer.ask(GET % (b"/blob", b""))
            assert (status, content) == (200, BLOB)
            assert headers["etag"] == '"d1"'
            assert headers["accept-ranges"] == "bytes"
            assert "date" in headers
            assert (await peer.ask(GET % (b"/nothing", b"")))[0] == 404
            assert (await peer.ask(GET % (b"/large", b"")))[2] == running.echo.file.read_bytes()
            assert (await peer.ask(GET % (b"/parts", b"")))[2] == b"one" + b"x" * 300_000
            assert (await peer.ask(GET % (b"/waits", b"")))[2] == b"waited"
            status, headers, content = await peer.ask(GET % (b"/fails", b""))
            assert (status, headers["x-more"]) == (409, "1")
            assert content == b'{"error": "no", "hint": "hint"}\n'


@pytest.mark.parametrize("path", [b"/blob", b"/large", b"/zeros"])
async def test_head_says_the_true_length_and_sends_nothing(serve: Serve, path: bytes) -> None:
    async with serve() as running, running.peer() as peer:
        await peer.stream.send_all((GET % (path, b"")).replace(b"GET", b"HEAD"))
        status, headers, _ = await peer.answer(silent=True)
        told = headers["content-length"]
        assert (status, told) == (200, str(len((await peer.ask(GET % (path, b"")))[2])))


@pytest.mark.parametrize("step", [1, 7, 100_000])
async def test_pipelined_requests_in_pieces_are_answered_in_order(serve: Serve, step: int) -> None:
    put = b"PUT /takes HTTP/1.1\r\nhost: x\r\n"
    whole = b"".join(
        [
            GET % (b"/waits", b""),
            put + b"content-length: 5\r\n\r\nhello",
            GET % (b"/blob", b""),
            put + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\na: b\r\n\r\n",
            b"\r\n" + GET % (b"/parts", b""),
            GET % (b"/nothing", b"connection: close\r\n"),
        ]
    )
    async with serve() as running, running.peer() as peer, trio.open_nursery() as nursery:

        async def send() -> None:
            for at in range(0, len(whole), step):
                await peer.stream.send_all(whole[at : at + step])
                await trio.lowlevel.checkpoint()

        nursery.start_soon(send)
        found = [(await peer.answer())[::2] for _ in range(6)]
        assert [status for status, _ in found] == [200] * 5 + [404]
        assert found[0][1] == b"waited"
        assert found[1][1] == b"5"
        assert found[2][1] == BLOB
        assert found[3][1] == b"5"
        assert running.echo.taken == [b"hello", b"abcde"]
        assert await peer.all() == b""


async def test_a_hundred_pipelined_requests_leave_others_their_turn(serve: Serve) -> None:
    async with serve() as running, running.peer() as peer, running.peer() as other:
        await peer.stream.send_all(GET % (b"/blob", b"") * 100)
        assert (await other.ask(GET % (b"/blob", b"")))[0] == 200
        for _ in range(100):
            assert (await peer.answer())[2] == BLOB


async def test_continue_is_said_when_the_body_is_wanted(serve: Serve) -> None:
    expecting = b"PUT %s HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
    async with serve(body_bytes=1000) as running:
        async with running.peer() as peer:
            assert (await peer.ask(expecting % b"/takes"))[0] == 100
            assert (await peer.ask(b"hello"))[2] == b"5"
            assert (await peer.ask(GET % (b"/blob", b"")))[0] == 200
        for path, old, new, wanted in (
            (b"/refuses", b"", b"", 403),
            (b"/takes", b"100-continue", b"miracles", 417),
            (b"/takes", b"length: 5", b"length: 5000", 413),
        ):
            async with running.peer() as peer:
                status, headers, _ = await peer.ask((expecting % path).replace(old, new, 1))
                assert (status, headers["connection"]) == (wanted, "close")
                assert await peer.all() == b""


async def test_a_body_that_nobody_reads_is_no_request(serve: Serve) -> None:
    put = b"PUT %s HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"
    async with serve() as running, running.peer() as peer:
        status, headers, _ = await peer.ask(put % b"/ignores")
        assert status == 200
        assert "connection" not in headers
        assert (await peer.ask(b"GET /" + GET % (b"/blob", b"")))[2] == BLOB
        assert (await peer.ask(put % b"/refuses" + b"hello"))[0] == 403
        assert (await peer.ask(GET % (b"/blob", b"")))[2] == BLOB
        status, headers, _ = await peer.ask(put % b"/refuses")
        assert (status, headers["connection"]) == (403, "close")
        await peer.stream.send_all(b"hello")
        assert await peer.all() == b""


async def test_old_clients(serve: Serve) -> None:
    old = b"GET %s HTTP/1.0\r\n%s\r\n"
    async with serve() as running:
        async with running.peer() as peer:
            status, headers, content = await peer.ask(old % (b"/parts", b""))
            assert (status, content) == (200, b"one" + b"x" * 300_000)
            assert headers["connection"] == "close"
            assert "transfer-encoding" not in headers
        async with running.peer() as peer:
            keep = b"connection: keep-alive\r\n"
            for _ in range(2):
                _, headers, content = await peer.ask(old % (b"/blob", keep))
                assert (headers["connection"], content) == ("keep-alive", BLOB)
            await peer.ask(old % (b"/blob", b""))
            assert await peer.all() == b""


async def test_an_answer_that_breaks_off_is_seen_to(serve: Serve) -> None:
    async with serve() as running:
        async with running.peer() as peer:
            with pytest.raises((trio.BrokenResourceError, AssertionError)):
                await peer.ask(GET % (b"/breaks", b""))
        running.echo.file.write_bytes(b"short")
        async with running.peer() as peer:
            with pytest.raises((trio.BrokenResourceError, AssertionError)):
                await peer.ask(GET % (b"/large", b""))


async def test_a_bug_is_a_miss_for_who_reads(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve() as running, running.peer() as peer:
        assert (await peer.ask(GET % (b"/bug", b"")))[0] == 404
        assert (await peer.ask((GET % (b"/bug", b"")).replace(b"GET", b"PUT")))[0] == 500
        assert (await peer.ask(GET % (b"/blob", b"")))[0] == 200
    assert "RuntimeError: a bug" in capsys.readouterr().err


async def test_whole_urls_are_taken_for_this_host_only(serve: Serve) -> None:
    for url, status in ((b"http://x/blob", 200), (b"http://y/blob", 400), (b"ftp://x/blob", 400)):
        async with serve() as running, running.peer() as peer:
            assert (await peer.ask(GET % (url, b"")))[0] == status


async def test_who_goes_away_leaves_nothing_behind(serve: Serve) -> None:
    begun = b"PUT /takes HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n" + b"x" * 1000
    async with serve() as running:
        for data in (GET % (b"/large", b""), GET % (b"/waits", b""), begun, b"GET /bl"):
            async with running.peer() as peer:
                await peer.stream.send_all(data)
                await trio.sleep(0.02)
        with trio.fail_after(10):
            server = running.server
            while server.requests or server.counter.connections:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert running.echo.taken == []


async def test_the_end_waits_for_requests_under_way(serve: Serve) -> None:
    put = b"PUT /takes HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"
    async with serve() as running, running.peer() as idle, running.peer() as peer:
        assert (await idle.ask(GET % (b"/blob", b"")))[0] == 200
        await peer.stream.send_all(put + b"he")
        await trio.sleep(0.05)
        running.server.end()
        assert await idle.all() == b""
        status, headers, content = await peer.ask(b"llo")
        assert (status, content) == (200, b"5")
        assert headers["connection"] == "close"
        assert await peer.all() == b""
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", running.port)


async def test_the_end_does_not_wait_for_ever(serve: Serve) -> None:
    put = b"PUT /takes HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n"
    async with serve(grace_seconds=0.05) as running, running.peer() as peer:
        await peer.stream.send_all(put + b"he")
        await trio.sleep(0.05)
        running.server.end()
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            await peer.answer()


async def test_a_connection_handed_over_too_late_is_closed(serve: Serve) -> None:
    async with serve() as running:
        running.server.end()
        await trio.testing.wait_all_tasks_blocked()
        client, accepted = socket.socketpair()
        with client:
            running.server.take(accepted)
            assert client.recv(1) == b""
