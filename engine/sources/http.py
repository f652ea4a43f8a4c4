"""Downloads: files and pages over HTTP and HTTPS, or from file:// addresses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import trio
from attrs import frozen

from store.errors import HostError, InputError, host_error

if TYPE_CHECKING:
    import httpx

Progress: TypeAlias = Callable[[int, int | None], None]
"""Is told the bytes that are there and, where the server says it, of how many."""

T = TypeVar("T")

_CHUNK: Final = 1 << 18
_PAGE_LIMIT: Final = 256 << 20
_RETRIED: Final = (408, 425, 429)
_NETWORK_HINT: Final = "check the network (and proxy settings), then run the build again"


@frozen
class Patience:
    """How long to wait, in seconds, and how often to try; `backoff` doubles after each attempt."""

    attempts: int = 4
    backoff: float = 0.5
    connect: float = 20.0
    read: float = 60.0


@frozen
class Download:
    """A file that was fetched: its SHA-256 in hexadecimal and its size in bytes."""

    sha256: str
    size: int


@frozen
class Page:
    """A small document and the address that it came from after redirects."""

    url: str
    content_type: str
    text: str


class NotFoundError(InputError):
    """The server answered, and does not have it."""


class _TransientError(Exception):
    """A failure that may not happen again."""


class Web:
    """A client for some downloads; an async context manager.

    Proxies and certificates come from the environment (HTTPS_PROXY, SSL_CERT_FILE, …).
    """

    def __init__(self, patience: Patience | None = None) -> None:
        # httpx takes longer to import than most builds that fetch nothing take in all.
        import httpx

        self._patience = patience or Patience()
        timeout = httpx.Timeout(self._patience.read, connect=self._patience.connect)
        try:
            self._client = httpx.AsyncClient(
                follow_redirects=True, timeout=timeout, headers={"User-Agent": "bn"}
            )
        except (OSError, ValueError, ImportError) as error:
            raise HostError(
                f"cannot set up downloads: {error}", "check SSL_CERT_FILE and the proxy settings"
            ) from error

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        with trio.CancelScope(shield=True):
            await self._client.aclose()

    async def download(self, url: str, target: str, progress: Progress | None = None) -> Download:
        """Fetch `url` into the new file `target`; on failure or cancellation no file is left.

        Raises NotFoundError, InputError for an address that cannot work, and HostError where the
        server is down, cuts off or keeps failing, or where the disk is full.
        """
        try:
            if _is_local(url):
                return _copy_local(url, target, progress)
            return await self._retried(url, lambda: self._stream(url, target, progress))
        except BaseException:
            _discard(target)
            raise

    async def page(self, url: str, accept: str = "*/*") -> Page:
        """Fetch a small document. Raises as `download` does."""
        if _is_local(url):
            return _local_page(url)
        return await self._retried(url, lambda: self._page(url, accept))

    async def _retried(self, url: str, attempt: Callable[[], Awaitable[T]]) -> T:
        delay = self._patience.backoff
        for left in reversed(range(self._patience.attempts)):
            try:
                with _translated(url):
                    return await attempt()
            except _TransientError as error:
                if not left:
                    tries = f"tried {self._patience.attempts} times"
                    raise HostError(f"{shown(url)}: {error} ({tries})", _NETWORK_HINT) from error
            await trio.sleep(delay)
            delay *= 2
        raise AssertionError("no attempt was allowed")

    async def _stream(self, url: str, target: str, progress: Progress | None) -> Download:
        # The stored file is what the server keeps, so nothing may be decoded on the way.
        headers = {"Accept-Encoding": "identity"}
        async with self._client.stream("GET", url, headers=headers) as response:
            _check_status(url, response)
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            with _Sink(target, total, progress) as sink:
                async for chunk in response.aiter_raw():
                    sink.write(chunk)
            if total is not None and sink.done != total:
                raise _TransientError(f"got {sink.done} of {total} bytes")
            return sink.result()

    async def _page(self, url: str, accept: str) -> Page:
        async with self._client.stream("GET", url, headers={"Accept": accept}) as response:
            _check_status(url, response)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _PAGE_LIMIT:
                    raise HostError(f"{shown(url)}: the page is larger than {_PAGE_LIMIT} bytes")
            kind = response.headers.get("Content-Type", "")
            return Page(str(response.url), kind, body.decode("utf-8", "replace"))


class _Sink:
    """A file that is written and hashed at once. Writes do not block longer than the disk does."""

    def __init__(self, path: str, total: int | None, progress: Progress | None) -> None:
        self.done = 0
        self._total = total
        self._progress = progress
        self._hasher = hashlib.sha256()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._handle = os.open(path, flags, 0o600)
        except OSError as error:
            raise host_error(error, "cannot write to the store") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._handle)

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        self._hasher.update(view)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            raise host_error(error, "cannot write the download to the store") from error
        self.done += len(chunk)
        if self._progress is not None:
            self._progress(self.done, self._total)

    def result(self) -> Download:
        return Download(self._hasher.hexdigest(), self.done)


def shown(url: str) -> str:
    """Return `url` as it may be printed: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def local_path(url: str) -> str:
    """Return the path that a file:// address names."""
    return unquote(urlsplit(url).path)


def _is_local(url: str) -> bool:
    try:
        return urlsplit(url).scheme == "file"
    except ValueError as error:
        raise InputError(f"{shown(url)}: cannot fetch this address: {error}") from error


def _copy_local(url: str, target: str, progress: Progress | None) -> Download:
    with _readable(url), open(local_path(url), "rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size
        with _Sink(target, total, progress) as sink:
            while chunk := file.read(_CHUNK):
                sink.write(chunk)
        return sink.result()


def _local_page(url: str) -> Page:
    path = local_path(url)
    if os.path.isdir(path):
        path = os.path.join(path, "index.html")
    with _readable(url), open(path, encoding="utf-8", errors="replace") as file:
        return Page(url, "application/json" if path.endswith(".json") else "text/html", file.read())


@contextmanager
def _readable(url: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFoundError(f"{shown(url)}: no such file") from error
    except OSError as error:
        raise host_error(error, "cannot read") from error


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn what httpx raises into bn's errors, or into a failure that is worth another try."""
    import httpx

    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InputError(f"{shown(url)}: cannot fetch this address: {error}") from error
    except httpx.TooManyRedirects as error:
        raise HostError(f"{shown(url)}: it redirects without end") from error
    except httpx.TimeoutException as error:
        raise _TransientError(
            f"the server did not answer in time ({type(error).__name__})"
        ) from error
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise HostError(
                f"{shown(url)}: the server's certificate is not trusted",
                "name the certificates of your network with SSL_CERT_FILE",
            ) from error
        reason = str(error) or type(error).__name__
        raise _TransientError(f"the connection failed: {reason}") from error
    except httpx.DecodingError as error:
        raise _TransientError(f"the answer is garbled: {error}") from error


def _check_status(url: str, response: httpx.Response) -> None:
    code = response.status_code
    if code < 300:
        return
    answer = f"the server answers {code} {response.reason_phrase}".rstrip()
    if code in (404, 410):
        raise NotFoundError(f"{shown(url)}: {answer}")
    if code >= 500 or code in _RETRIED:
        raise _TransientError(answer)
    raise InputError(f"{shown(url)}: {answer}", "check the address and its credentials")


def _discard(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
