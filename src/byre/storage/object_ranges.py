"""Byte ranges of an object in S3 or what speaks its protocol, by way of obstore."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from byre.errors import MissingError, StorageError, UnsupportedError
from byre.storage.patience import HINT, patience
from byre.storage.urls import redact

MOST_SECONDS = 600
"""Of one request that does move on: 4 MiB over the slowest of lines."""


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
        self._patience = patience()
        each = f"{round(self._patience * 500)}ms"  # half for each of two tries, as over HTTP
        limits: Any = {"connect_timeout": each, "read_timeout": each, "timeout": f"{MOST_SECONDS}s"}
        limits = {key: value for key, value in limits.items() if f"AWS_{key.upper()}" not in os.environ}
        retries: Any = {"max_retries": 3, "retry_timeout": timedelta(seconds=self._patience)}
        try:
            self._store = S3Store(parts.hostname, config=limits, retry_config=retries)
            head = obstore.head(self._store, self._key)
        except FileNotFoundError as error:
            raise MissingError("no such object", path=self.name) from error
        except Exception as error:  # obstore's own tree is not importable by name in all its versions
            raise self._silence(error) or StorageError(
                f"the object can't be opened: {type(error).__name__}",
                path=self.name,
                hint="Credentials, region and endpoint come from the environment (AWS_ACCESS_KEY_ID and so on).",
            ) from error
        self.size = int(head["size"])

    def fetch(self, start: int, length: int) -> bytes:
        try:
            body = bytes(self._get_range(self._store, self._key, start=start, length=length))
        except Exception as error:  # as above
            raise self._silence(error, start) or StorageError(
                f"the object can't be read: {type(error).__name__}", path=self.name, offset=start
            ) from error
        if len(body) != length:
            raise StorageError(
                "the object store answers ranges wrongly", path=self.name, found=len(body), expected=length
            )
        return body

    def _silence(self, error: Exception, offset: int | None = None) -> StorageError | None:
        """The error where the store didn't answer in time, None where it said something."""
        if "TimedOut" not in str(error):
            return None
        what = f"the object can't be read: no answer from the store within {self._patience:g} s"
        return StorageError(what, path=self.name, offset=offset, hint=HINT)

    def close(self) -> None:
        return None
