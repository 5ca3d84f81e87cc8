"""Byte ranges of a file behind HTTP. Certificates are verified, silence is bounded, nothing wrong is believed."""

from __future__ import annotations

import re
import time
from urllib.parse import urlsplit

from byre.errors import MissingError, StorageError, UnsupportedError
from byre.storage.patience import HINT, patience
from byre.storage.urls import redact

RETRIES = 3
PAUSE_SECONDS = 0.3
"""Before the second try; each later one waits twice as long as the one before."""
MAX_REDIRECTS = 5
BUSY = (502, 503, 504)
"""What a server, or a gateway before it, says when it may well answer a moment later."""


class _PassingError(Exception):
    """One try failed in a way that may pass. ``silent``: nothing came for as long as the try could wait."""

    def __init__(self, what: str, *, silent: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.silent = silent


class HttpSource:
    """Ranges of an ``http://`` or ``https://`` URL. Certificates are verified."""

    def __init__(self, url: str, first: int) -> None:
        """``first``: bytes of the first request, which also tells the size."""
        import urllib3

        self.url = url
        self.name = redact(url)
        self._host = urlsplit(url).netloc.rpartition("@")[2]
        self._patience = patience()
        self._pool = urllib3.PoolManager()
        self._validator: tuple[str | None, str | None] | None = None
        self.size = 0
        self._first = self._request(0, first, first=True)

    def fetch(self, start: int, length: int) -> bytes:
        first, self._first = self._first, b""
        if first and start == 0 and length <= len(first):
            return first[:length]
        return self._request(start, length)

    def close(self) -> None:
        self._pool.clear()

    def _request(self, start: int, length: int, *, first: bool = False) -> bytes:
        """The range, asked for again where the server is silent, breaks off or says that it is busy.

        All tries together wait no longer for it than ``patience``: half of that each, since a connection that was
        kept open may have died unnoticed, and a new one then brings the answer.
        """
        deadline = time.monotonic() + self._patience
        for tried in range(1, RETRIES + 2):
            left = deadline - time.monotonic()
            try:
                return self._ask(start, length, first=first, silence=max(0.001, min(self._patience / 2, left)))
            except _PassingError as failure:
                pause = PAUSE_SECONDS * 2 ** (tried - 1)
                if tried > RETRIES or time.monotonic() + pause >= deadline:
                    raise self._given_up(failure, tried, start) from failure.__cause__
                time.sleep(pause)
        raise AssertionError("the last try either answers or raises")

    def _given_up(self, failure: _PassingError, tried: int, start: int) -> StorageError:
        if not failure.silent:
            return StorageError(failure.what, path=self.name, offset=start)
        tries = "" if tried == 1 else f" in {tried} tries"
        what = f"the server can't be read from: no answer from {self._host} within {self._patience:g} s{tries}"
        return StorageError(what, path=self.name, offset=start, found=failure.what, hint=HINT)

    def _ask(self, start: int, length: int, *, first: bool, silence: float) -> bytes:
        """The range, asked for once. ``silence``: seconds to wait for a connection, or for the next bytes."""
        import urllib3

        wanted = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        wanted |= self._credentials()
        try:
            answer = self._pool.request(
                "GET",
                self._plain_url(),
                headers=wanted,
                preload_content=False,
                timeout=urllib3.Timeout(connect=silence, read=silence),
                retries=urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=MAX_REDIRECTS),
            )
            try:
                self._check_status(answer.status)
                low, high, total = self._content_range(answer.headers.get("Content-Range"), answer.status, start)
                if first:
                    self.size = total
                expected = min(start + length, self.size) - start
                if (low, high - low + 1, total) != (start, expected, self.size):
                    raise self._wrong(
                        f"bytes {low}-{high}/{total}", f"bytes {start}-{start + expected - 1}/{self.size}"
                    )
                self._check_validator(answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
                body: bytes = answer.read(expected + 1)
            finally:
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise self._failure(error, start) from error
        if len(body) != expected:
            raise self._wrong(f"a body of {len(body)} bytes", f"{expected} bytes")
        return body

    def _failure(self, error: Exception, start: int) -> Exception:
        import urllib3.exceptions as said

        cause = _cause(error)
        if isinstance(cause, said.ConnectTimeoutError) and not isinstance(cause, said.NewConnectionError):
            return _PassingError("no connection", silent=True)
        if isinstance(cause, said.ReadTimeoutError):
            return _PassingError("a connection, and then nothing", silent=True)
        what = f"the server can't be read from: {_reason(cause)}"
        if isinstance(cause, (said.NewConnectionError, said.ProtocolError)):
            return _PassingError(what)
        return StorageError(what, path=self.name, offset=start)

    def _plain_url(self) -> str:
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()

    def _credentials(self) -> dict[str, str]:
        from urllib.parse import unquote

        import urllib3

        parts = urlsplit(self.url)
        if parts.username is None:
            return {}
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return dict(urllib3.make_headers(basic_auth=pair))

    def _check_status(self, status: int) -> None:
        if status == 206:
            return
        if status in BUSY:
            raise _PassingError(f"the server can't be read from: it answered HTTP {status}")
        if status in (404, 410):
            raise MissingError(f"no such file on the server (HTTP {status})", path=self.name)
        if status in (401, 403):
            raise StorageError(f"the server refuses access (HTTP {status})", path=self.name)
        if status == 200:
            raise UnsupportedError(
                "the server doesn't serve ranges: it answered with the whole file",
                path=self.name,
                hint="Download it first, or serve it from a server that supports range requests.",
            )
        if status == 416:
            raise StorageError("the server has no bytes to give: the file is empty or shorter now", path=self.name)
        raise StorageError(f"the server answered HTTP {status}", path=self.name, expected="206 Partial Content")

    def _content_range(self, text: str | None, status: int, start: int) -> tuple[int, int, int]:
        match = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", (text or "").strip())
        if match is None:
            raise self._wrong(repr(text), "a Content-Range with the range and the size")
        return int(match[1]), int(match[2]), int(match[3])

    def _check_validator(self, etag: str | None, modified: str | None) -> None:
        if self._validator is None:
            self._validator = (etag, modified)
        elif self._validator != (etag, modified):
            raise StorageError("the file on the server changed while it was read", path=self.name)

    def _wrong(self, found: str, expected: str) -> StorageError:
        return StorageError("the server answers ranges wrongly", path=self.name, found=found, expected=expected)


def _cause(error: Exception) -> Exception:
    """What lies beneath urllib3's own wrappings."""
    while isinstance(deeper := getattr(error, "reason", None), Exception):
        error = deeper
    return error


def _reason(error: Exception) -> str:
    """What urllib3 says in a few words: its own messages name the whole URL, secrets too."""
    cause = _cause(error)
    if type(cause).__name__ == "ResponseError":
        return str(cause)  # "too many redirects", "too many 503 error responses": no address in it
    inner = getattr(cause, "__cause__", None) or getattr(cause, "__context__", None) or cause
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else type(cause).__name__
    return {
        "NameResolutionError": "its name can't be resolved",
        "ProtocolError": "it broke the connection off",
        "LocationValueError": "it redirects to what is no web address",
        "LocationParseError": "it redirects to what is no web address",
        "DecodeError": "the content isn't encoded as it says",
        "SSLError": "its certificate can't be verified",
    }.get(type(cause).__name__, text)
