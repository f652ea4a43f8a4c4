"""One remote cache asked over HTTP: within bounded times, and every answer checked.

Runs in the loop of `loop.py`. What is not there is a value; whatever makes a remote useless for now
is a `GivenUp`.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import IO, Any, Final

import trio

from engine import __version__
from engine.http.framing import MEDIA_TYPE, Decoder, FramingError, Piece, head
from engine.remote.credentials import GivenUp as GivenUp
from engine.remote.credentials import tls_of, token_of, withheld
from engine.remote.light_httpx import httpx
from engine.remote.settings import RemoteSpec
from engine.remote.wire import Candidate, Lie, closures, digests, parse, realisations, results
from store.digest import Digest
from store.errors import BnError
from store.objects import Tree
from store.spans import span

CONNECT_SECONDS: Final = 2.0
FIRST_BYTE_SECONDS: Final = 5.0
"""Until an answer begins, and between two parts of it."""

STORE_SECONDS: Final = 30.0
"""Until a server says that it stored something."""

WINDOW_SECONDS: Final = 5.0
LEAST_RATE: Final = 32 * 1024
"""Bytes a second that have to come within each window of that length."""

ASKED_MOST: Final = 4000
"""Digests in one request."""

ANSWER_MOST: Final = 256 * 2**20
"""Bytes of an answer in JSON; digests and trees are a fraction of that."""

RETRIES: Final = 2
WAIT_MOST: Final = 2.0
"""Seconds that a busy remote may ask to wait."""

CHUNK: Final = 256 * 1024

PACKED: Final = 512
"""Bytes that are unpacked at a time: even the densest answer cannot fill the memory."""

LANE: Final = "remote caches"
"""What goes on here in a profile."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_BUSY: Final = (429, 503)


class Absent(Exception):
    """A remote does not have what was asked for."""


class TooLarge(Exception):
    """A remote does not take a blob for its size."""


class Client:
    """The client of one remote; made and used within the loop."""

    def __init__(self, spec: RemoteSpec) -> None:
        """Raises GivenUp where what it is configured with cannot be used."""
        self._base = spec.base
        url = httpx.URL(spec.url)
        near = url.host in _LOOPBACK
        token = token_of(spec)
        self.withheld = withheld(spec)
        """Why it is not shown the token that there is, if so."""
        self._headers = {
            "user-agent": f"bn/{__version__}",
            "accept-encoding": "identity" if near else "zstd",
            **({"authorization": f"Bearer {token}"} if token else {}),
        }
        self._http = httpx.AsyncClient(
            verify=tls_of(spec) if url.scheme == "https" else False,
            trust_env=not near,
            timeout=httpx.Timeout(FIRST_BYTE_SECONDS, connect=CONNECT_SECONDS, pool=60.0),
            limits=httpx.Limits(max_connections=8),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    # questions

    async def realisations(self, recipes: Sequence[Digest]) -> dict[Digest, list[Candidate]]:
        """Return what recipes came to."""
        return await self._each("realisations:get", recipes, realisations)

    async def results(self, actions: Sequence[Digest]) -> dict[Digest, list[Candidate]]:
        """Return the results of actions."""
        return await self._each("actions:get", actions, results)

    async def closures(self, trees: Sequence[Digest]) -> dict[Digest, tuple[Tree, bytes]]:
        """Return these trees and all below them."""
        return await self._each("closures:get", trees, lambda answer, _: closures(answer))

    async def missing(self, wanted: Sequence[Digest]) -> set[Digest]:
        """Return those blobs that it does not have."""
        found: set[Digest] = set()
        for some in _parts(wanted, ASKED_MOST):
            answer = await self._json("blobs:missing", {"digests": some})
            with _told():
                found |= digests(answer, "missing").intersection(some)
        return found

    async def blobs(self, wanted: Sequence[Digest]) -> AsyncGenerator[Piece, None]:
        """Give the blobs that it has, in any order, piece by piece. Their bytes are not checked,
        but nothing comes that was not asked for."""
        left = set(wanted)
        body = json.dumps({"digests": list(wanted)}).encode()
        with _told():
            async with self._answer("POST", "blobs:get", body) as parts:
                decoder = Decoder()
                async for part in parts:
                    for piece in decoder.feed(part):
                        if piece.offset == 0 and piece.digest not in left:
                            raise Lie("it sends what was not asked for")
                        left.discard(piece.digest)
                        yield piece
                decoder.finish()

    async def blob(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        """Give the bytes of a blob, not checked; raises Absent."""
        with _told(absent=True):
            async with self._answer("GET", f"blobs/{digest}") as parts:
                async for part in parts:
                    yield part

    # gifts

    async def put_blobs(self, blobs: Sequence[tuple[Digest, bytes]]) -> None:
        """Store small blobs. Raises TooLarge."""
        body = b"".join([part for d, data in blobs for part in (head(d, len(data)), data)])
        await self._stored("POST", "blobs:put", body, {"content-type": MEDIA_TYPE})

    async def put_blob(self, digest: Digest, size: int, file: IO[bytes]) -> None:
        """Store a large blob. Raises TooLarge."""

        def content() -> AsyncIterator[bytes]:
            file.seek(0)
            return _read(file)

        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        await self._stored("PUT", f"blobs/{digest}", content, headers)

    async def put(self, name: str, candidates: Sequence[Mapping[str, Any]]) -> int:
        """Store candidates (`actions` or `realisations`) and return how many it took."""
        stored = 0
        for some in _parts(candidates, ASKED_MOST):
            body = json.dumps({name: some}).encode()
            headers = {"content-type": "application/json"}
            answer = await self._stored("POST", f"{name}:put", body, headers)
            with _told():
                number = parse(answer).get("stored")
                if not isinstance(number, int) or not 0 <= number <= len(some):
                    raise Lie("it does not say how many it stored")
            stored += number
        return stored

    async def taint(self, bad: Sequence[Digest], seconds: float) -> int:
        """Let it drop and refuse what is bad, and return how many entries went."""
        body = json.dumps({"digests": list(bad)}).encode()
        headers = {"content-type": "application/json"}
        answer = parse(await self._stored("POST", "taint", body, headers, seconds))
        removed = answer.get("removed")
        if not isinstance(removed, list):
            raise Lie("it does not say what it dropped")
        return len(removed)

    # inside

    async def _each(
        self,
        path: str,
        wanted: Sequence[Digest],
        understood: Callable[[dict[str, Any], Sequence[Digest]], dict[Digest, Any]],
    ) -> dict[Digest, Any]:
        found: dict[Digest, Any] = {}
        for some in _parts(wanted, ASKED_MOST):
            with span(path, LANE, digests=len(some)):
                answer = await self._json(path, {"digests": some})
            with span("check", LANE), _told():
                found |= understood(answer, some)
        return found

    async def _json(self, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps(question).encode()
        with _told():
            async with self._answer("POST", path, body) as parts:
                return parse(await _whole(parts))

    async def _stored(
        self,
        method: str,
        path: str,
        body: bytes | Callable[[], AsyncIterator[bytes]],
        headers: Mapping[str, str],
        patience: float | None = None,
    ) -> bytes:
        seconds = STORE_SECONDS if patience is None else patience
        with _told():
            async with self._answer(method, path, body, headers, seconds) as parts:
                return await _whole(parts)

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        body: bytes | Callable[[], AsyncIterator[bytes]] = b"",
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the body of a 200 as it comes; asked again where a connection was closed just then
        or the remote is busy for a moment. Raises Absent for a 404."""
        seconds = FIRST_BYTE_SECONDS if patience is None else patience
        bound = math.inf if callable(body) else seconds + CONNECT_SECONDS
        async with contextlib.AsyncExitStack() as stack:
            for attempt in range(RETRIES + 1):
                request = self._http.build_request(
                    method,
                    f"{self._base}/bn/v1/{path}",
                    content=body() if callable(body) else body or None,
                    headers={**self._headers, **_typed(body), **(headers or {})},
                    timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS, pool=60.0),
                )
                last = attempt == RETRIES
                try:
                    with trio.fail_after(bound):
                        response = await self._http.send(request, stream=True)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    if last:
                        raise
                    continue
                stack.push_async_callback(response.aclose)
                if response.status_code == 200:
                    steady = contextlib.aclosing(_steadily(_plain(response)))
                    yield await stack.enter_async_context(steady)
                    return
                wait = _seconds(response.headers.get("retry-after"))
                if last or response.status_code not in _BUSY or wait > WAIT_MOST:
                    await _refused(response)
                await response.aclose()
                await trio.sleep(wait)


def _typed(body: object) -> dict[str, str]:
    return {"content-type": "application/json"} if isinstance(body, bytes) and body else {}


def _parts(values: Sequence[Any], most: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), most):
        yield list(values[start : start + most])


async def _read(file: IO[bytes]) -> AsyncIterator[bytes]:
    while part := file.read(CHUNK):
        yield part


async def _whole(parts: AsyncIterator[bytes]) -> bytes:
    found, size = [], 0
    async for part in parts:
        size += len(part)
        if size > ANSWER_MOST:
            raise Lie("its answer does not end")
        found.append(part)
    return b"".join(found)


async def _plain(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Give the bytes of an answer as they were before they were encoded, in bounded parts."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding == "identity":
        async for part in response.aiter_raw():
            yield part
        return
    if encoding != "zstd":
        raise Lie(f"it is encoded as {encoding}")
    import zstandard

    decoder = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    async for part in response.aiter_raw():
        for start in range(0, len(part), PACKED):
            try:
                data = decoder.decompress(part[start : start + PACKED])
            except zstandard.ZstdError:
                raise Lie("it is no zstd") from None
            if data:
                yield data


async def _steadily(parts: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Give the same parts; raises trio.TooSlowError where they come too slowly."""
    begun, got = trio.current_time(), 0
    while True:
        with trio.fail_at(begun + WINDOW_SECONDS + FIRST_BYTE_SECONDS):
            part = await anext(parts, None)
        if part is None:
            return
        got += len(part)
        now = trio.current_time()
        if now - begun > WINDOW_SECONDS:
            if got < WINDOW_SECONDS * LEAST_RATE:
                raise trio.TooSlowError
            begun, got = now, 0
        yield part
        begun += trio.current_time() - now  # what we take ourselves does not count


def _seconds(text: str | None) -> float:
    """Return the seconds in a Retry-After; infinity where it does not say."""
    try:
        return max(0.0, float(text or "inf"))
    except ValueError:
        return math.inf


async def _refused(response: httpx.Response) -> None:
    status = response.status_code
    said = ""
    with contextlib.suppress(Exception):
        data = await response.aread() if response.headers.get("content-length", "") else b""
        said = str(json.loads(data[:4096]).get("error", ""))
    if status == 404:
        raise Absent
    if status == 413:
        raise TooLarge
    words = {401: "it wants a token", 403: "it does not allow that", 507: "it is full"}
    words |= {429: "it has too many requests", 503: "it is busy"}
    reason = words.get(status) or said[:200] or "an answer that no cache gives"
    raise GivenUp(f"{reason} ({status})")


@contextlib.contextmanager
def _told(*, absent: bool = False) -> Iterator[None]:
    """Turn what goes wrong on the way into GivenUp, where it may not be `absent` that, too."""
    try:
        yield
    except Absent:
        if absent:
            raise
        raise GivenUp("it speaks no protocol of bn's (404)") from None
    except httpx.ConnectTimeout:
        raise GivenUp(f"no connection within {CONNECT_SECONDS:.0f} s") from None
    except (httpx.TimeoutException, trio.TooSlowError):
        raise GivenUp("it is too slow") from None
    except httpx.HTTPError as error:
        raise GivenUp(_reason(error)) from None
    except (Lie, FramingError) as error:
        raise GivenUp(f"it is not to be believed: {error}") from None
    except OSError as error:
        raise GivenUp(_reason(error)) from None
    except (GivenUp, TooLarge, BnError):
        raise
    except Exception as error:  # whatever a remote does, no build fails for it
        raise GivenUp(f"it cannot be understood: {type(error).__name__}: {error}") from error


def _reason(error: BaseException) -> str:
    """Return what a network error says at its root."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ or error.__context__:
            error = error.__cause__ or error.__context__ or error
        else:
            break
    if isinstance(error, OSError):
        return (error.strerror or str(error)).rpartition(": ")[2].lower()
    return (str(error) or type(error).__name__).lower()
