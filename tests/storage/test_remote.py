"""Files behind HTTP and S3: exact bytes or an error, few requests, no secrets shown."""

from __future__ import annotations

import random

import pytest

from builders.range_server import serve
from byre.disks.opening import open_disk, parse_address
from byre.errors import ByreError, MissingError, StorageError, UnsupportedError, UsageError
from byre.storage.remote import BLOCK, CACHE_BYTES, open_remote
from byre.storage.urls import redact, split_snapshot

DATA = random.Random(3).randbytes(5 * BLOCK + 777)


def test_reads_are_exact_at_odd_offsets() -> None:
    rng = random.Random(5)
    with serve(DATA) as url, open_remote(url) as storage:
        assert storage.size == len(DATA)
        for _ in range(60):
            start = rng.randrange(len(DATA))
            length = rng.randint(0, len(DATA) - start)
            assert storage.read(start, length) == DATA[start : start + length]
        assert storage.traffic.bytes <= len(DATA) + BLOCK


def test_small_reads_of_one_block_ask_once() -> None:
    with serve(DATA) as url, open_remote(url) as storage:
        for at in range(0, BLOCK, 512):
            storage.read(at, 512)
        assert storage.traffic.requests == 1


def test_sequential_reads_ask_for_more_each_time() -> None:
    data = bytes(64 * BLOCK)
    with serve(data) as url, open_remote(url) as storage:
        for at in range(0, len(data), 4096):
            storage.read(at, 4096)
        assert storage.traffic.requests < 12


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byre.storage.remote.CACHE_BYTES", 2 * BLOCK)
    with serve(DATA) as url, open_remote(url) as storage:
        for at in (0, 2 * BLOCK, 4 * BLOCK, 0):
            assert storage.read(at, 16) == DATA[at : at + 16]
        assert storage.traffic.requests == 4
    assert CACHE_BYTES <= 256 << 20


@pytest.mark.parametrize(
    "behaviour", ["shifted", "short-body", "wrong-total", "changing-etag", "no-content-range", "stalls-then-closes"]
)
def test_a_server_that_answers_ranges_wrongly_is_an_error(behaviour: str) -> None:
    with serve(DATA, behaviour) as url, pytest.raises(StorageError), open_remote(url) as storage:
        storage.read(3 * BLOCK, 100)


@pytest.mark.parametrize(
    ("behaviour", "kind"), [("whole-file", UnsupportedError), ("missing", MissingError), ("forbidden", StorageError)]
)
def test_servers_that_refuse_say_why(behaviour: str, kind: type[ByreError]) -> None:
    with serve(DATA, behaviour) as url, pytest.raises(kind):
        open_remote(url)


def test_a_server_that_is_not_there_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byre.storage.remote.RETRIES", 0)
    with pytest.raises(StorageError) as caught:
        open_remote("http://user:secret@127.0.0.1:9/x.qcow2?token=abc")
    assert "secret" not in str(caught.value) and "abc" not in str(caught.value)


def test_user_info_becomes_basic_authentication() -> None:
    with serve(DATA, auth="Basic dTpwIHA=") as url:
        with open_remote(url.replace("http://", "http://u:p%20p@")) as storage:
            assert storage.read(1, 3) == DATA[1:4]
        with pytest.raises(StorageError):
            open_remote(url)


def test_secrets_in_urls_are_not_shown() -> None:
    assert redact("https://me:pw@host:8443/a/b.qcow2?X-Sig=1#f") == "https://host:8443/a/b.qcow2?..."


def test_a_snapshot_stands_after_the_last_slash_and_before_the_query() -> None:
    assert split_snapshot("https://u@h/a@b/xp.qcow2?s=@") == ("https://u@h/a@b/xp.qcow2?s=@", None)
    assert split_snapshot("https://u@h/a@b/xp.qcow2@clean?s=1") == ("https://u@h/a@b/xp.qcow2?s=1", "clean")
    assert parse_address("s3://b/x@y").snapshot == "y"


def test_an_image_behind_http_is_a_disk() -> None:
    with serve(DATA) as url:
        with open_disk(url) as disk:
            assert disk.format == "raw" and disk.read(0, len(DATA))[:100] == DATA[:100]
        with pytest.raises(UsageError):
            open_disk(url, writable=True)


def test_an_image_in_an_object_store_is_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stands in for S3: a whole one (moto) would be sixty packages for a GET with a range."""
    pytest.importorskip("obstore")
    with serve(DATA) as url:
        environment = {
            "AWS_ENDPOINT": url.rsplit("/", 2)[0],
            "AWS_ALLOW_HTTP": "true",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with open_remote("s3://images/old/xp.raw") as storage:
            assert storage.read(70_000, 9) == DATA[70_000:70_009]
        with open_disk("s3://images/old/xp.raw") as disk:
            assert disk.read(0, 512) == DATA[:512]
        with pytest.raises(MissingError):
            open_remote("s3://images/none")
