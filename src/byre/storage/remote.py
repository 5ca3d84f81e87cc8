"""A file behind HTTP or S3, read by ranges through a bounded cache. Never written.

A server that answers a range with anything else than exactly that range of the same file is an error: what it
sent instead is never taken for the image.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from byre.errors import MissingError, StorageError, UnsupportedError
from byre.storage.base import Buffer, StorageDefaults
from byre.storage.urls import redact

BLOCK = 1 << 16
"""Bytes of a cached block, and the least that is asked for: one qcow2 cluster at its usual size."""
MAX_FETCH = 4 << 20
"""Bytes of one request at most; sequential readers reach it by doubling."""
CACHE_BYTES = 128 << 20
TIMEOUT_SECONDS = 30.0
RETRIES = 3


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has gone over the wire for one file."""

    requests: int
    bytes: int


class RangeSource(Protocol):
    """Something that gives byte ranges of one file that must not change meanwhile."""

    size: int

    def fetch(self, start: int, length: int) -> bytes:
        """Exactly these bytes. Raises StorageError for anything else."""
        ...

    def close(self) -> None: ...


class HttpSource:
    """Ranges of an ``http://`` or ``https://`` URL. Certificates are verified."""

    def __init__(self, url: str) -> None:
        import urllib3

        self.url = url
        self.name = redact(url)
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(total=TIMEOUT_SECONDS),
            retries=urllib3.Retry(RETRIES, backoff_factor=0.3, status_forcelist=(502, 503, 504), redirect=5),
        )
        self._validator: tuple[str | None, str | None] | None = None
        self.size = 0
        self._first = self._request(0, BLOCK, first=True)

    def fetch(self, start: int, length: int) -> bytes:
        first, self._first = self._first, b""
        if first and start == 0 and length <= len(first):
            return first[:length]
        return self._request(start, length)

    def close(self) -> None:
        self._pool.clear()

    def _request(self, start: int, length: int, *, first: bool = False) -> bytes:
        import urllib3

        wanted = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        wanted |= self._credentials()
        try:
            answer = self._pool.request("GET", self._plain_url(), headers=wanted, preload_content=False)
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
            raise StorageError(
                f"the server can't be read from: {_reason(error)}", path=self.name, offset=start
            ) from error
        if len(body) != expected:
            raise self._wrong(f"a body of {len(body)} bytes", f"{expected} bytes")
        return body

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


class ObjectSource:
    """Ranges of an ``s3://bucket/key`` object; credentials and endpoint come from the environment."""

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            raise UnsupportedError(
                "reading s3:// needs the package obstore", path=redact(url), hint="pip install 'byre[s3]'"
            ) from error
        self.name = redact(url)
        parts = urlsplit(url)
        self._key = parts.path.lstrip("/")
        if not parts.hostname or not self._key:
            raise MissingError("an s3:// address is s3://bucket/key", path=self.name)
        self._get_range = obstore.get_range
        try:
            self._store = S3Store(parts.hostname)
            head = obstore.head(self._store, self._key)
        except FileNotFoundError as error:
            raise MissingError("no such object", path=self.name) from error
        except Exception as error:  # obstore's own tree is not importable by name in all its versions
            raise StorageError(
                f"the object can't be opened: {type(error).__name__}",
                path=self.name,
                hint="Credentials, region and endpoint come from the environment (AWS_ACCESS_KEY_ID and so on).",
            ) from error
        self.size = int(head["size"])

    def fetch(self, start: int, length: int) -> bytes:
        try:
            body = bytes(self._get_range(self._store, self._key, start=start, length=length))
        except Exception as error:  # as above
            raise StorageError(
                f"the object can't be read: {type(error).__name__}", path=self.name, offset=start
            ) from error
        if len(body) != length:
            raise StorageError(
                "the object store answers ranges wrongly", path=self.name, found=len(body), expected=length
            )
        return body

    def close(self) -> None:
        return None


class RemoteStorage(StorageDefaults):
    """Ranges behind the Storage protocol. Mutable: an LRU of blocks, and the count of what was fetched."""

    def __init__(self, source: RangeSource, *, name: str) -> None:
        self.name = name
        self.path: Path | None = None
        self.writable = False
        self._source = source
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0
        self._ahead = BLOCK
        self._next = -1

    @property
    def size(self) -> int:
        return self._source.size

    @property
    def allocated(self) -> int:
        return self._source.size

    @property
    def traffic(self) -> Traffic:
        return Traffic(self._requests, self._bytes)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        if offset < 0 or offset + len(view) > self.size:
            raise StorageError(
                "the file ends early",
                path=self.name,
                offset=offset,
                found=f"{max(0, self.size - offset)} bytes",
                expected=f"{len(view)} bytes",
            )
        if not len(view):
            return
        with self._lock:
            end = offset + len(view)
            at = offset
            while at < end:
                block = self._block(at // BLOCK, -(-end // BLOCK))
                within = at % BLOCK
                piece = block[within : within + end - at]
                view[at - offset : at - offset + len(piece)] = piece
                at += len(piece)

    def write(self, offset: int, data: Buffer) -> None:
        raise StorageError("remote files are read-only", path=self.name)

    def truncate(self, size: int) -> None:
        raise StorageError("remote files are read-only", path=self.name)

    def flush(self) -> None:
        return None

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        if start < min(stop, self.size):
            yield start, min(stop, self.size)

    def close(self) -> None:
        self._source.close()

    def _block(self, index: int, until: int) -> bytes:
        """The block, fetched with as many of its missing successors as are wanted or worth reading ahead."""
        known = self._blocks.get(index)
        if known is not None:
            self._blocks.move_to_end(index)
            return known
        self._ahead = min(self._ahead * 2, MAX_FETCH) if index == self._next else BLOCK
        most = max(until - index, self._ahead // BLOCK)
        stop = index + 1
        last = -(-self.size // BLOCK)
        while stop < last and stop - index < min(most, MAX_FETCH // BLOCK) and stop not in self._blocks:
            stop += 1
        start = index * BLOCK
        body = self._source.fetch(start, min(stop * BLOCK, self.size) - start)
        self._requests += 1
        self._bytes += len(body)
        self._next = stop
        for number in range(index, stop):
            self._blocks[number] = body[(number - index) * BLOCK : (number - index + 1) * BLOCK]
        while len(self._blocks) > CACHE_BYTES // BLOCK:
            oldest = next(iter(self._blocks))
            if oldest == index:
                break
            del self._blocks[oldest]
        return self._blocks[index]


def _reason(error: Exception) -> str:
    """What urllib3 says in a few words: its own messages name the whole URL, secrets too."""
    cause: object = error
    while (deeper := getattr(cause, "reason", None)) is not None and isinstance(deeper, Exception):
        cause = deeper
    if type(cause).__name__ == "ResponseError":
        return str(cause)  # "too many redirects", "too many 503 error responses": no address in it
    inner = getattr(cause, "__cause__", None) or getattr(cause, "__context__", None) or cause
    text = inner.strerror if isinstance(inner, OSError) and inner.strerror else type(cause).__name__
    return {
        "NameResolutionError": "its name can't be resolved",
        "ConnectTimeoutError": "no answer in time",
        "ReadTimeoutError": "no answer in time",
        "ProtocolError": "it broke the connection off",
        "LocationValueError": "it redirects to what is no web address",
        "LocationParseError": "it redirects to what is no web address",
        "DecodeError": "the content isn't encoded as it says",
        "SSLError": "its certificate can't be verified",
    }.get(type(cause).__name__, text)


def open_remote(url: str) -> RemoteStorage:
    """Open ``http(s)://…`` or ``s3://…`` for reading. Raises MissingError, StorageError, UnsupportedError."""
    source: RangeSource = ObjectSource(url) if url.lower().startswith("s3://") else HttpSource(url)
    return RemoteStorage(source, name=redact(url))
