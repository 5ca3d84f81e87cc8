"""Files behind HTTP and S3: exact bytes or an error, few requests, no secrets shown."""

from __future__ import annotations

import random
import socket

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
def test_a_server_that_answers_ranges_wrongly_is_an_error(behaviour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byre.storage.http_ranges.PAUSE_SECONDS", 0)
    with serve(DATA, behaviour) as url, pytest.raises(StorageError), open_remote(url) as storage:
        storage.read(3 * BLOCK, 100)


@pytest.mark.parametrize(
    ("behaviour", "kind"), [("whole-file", UnsupportedError), ("missing", MissingError), ("forbidden", StorageError)]
)
def test_servers_that_refuse_say_why(behaviour: str, kind: type[ByreError]) -> None:
    with serve(DATA, behaviour) as url, pytest.raises(kind):
        open_remote(url)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byre.storage.http_ranges.PAUSE_SECONDS", 0)
    monkeypatch.setenv("BYRE_REMOTE_TIMEOUT", "0.4")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("behaviour", ["silent", "silent-body"])
def test_a_server_that_falls_silent_is_given_up_in_the_time_that_was_set(behaviour: str) -> None:
    with serve(DATA, behaviour) as url:
        host = url.split("/")[2]
        with pytest.raises(StorageError) as caught, open_remote(url) as storage:
            storage.read(3 * BLOCK, 100)
    assert caught.value.what.startswith(f"the server can't be read from: no answer from {host} within 0.4 s")
    assert caught.value.found == "a connection, and then nothing"
    assert caught.value.hint == "BYRE_REMOTE_TIMEOUT=SECONDS waits longer."


@pytest.mark.usefixtures("impatient")
def test_a_host_that_takes_no_connection_is_given_up_in_the_time_that_was_set() -> None:
    """A queue of one that is full: the kernel leaves later connections without an answer."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (first, second):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        host, port = listener.getsockname()
        with pytest.raises(StorageError) as caught:
            open_remote(f"http://{host}:{port}/xp.img")
    assert f"no answer from {host}:{port} within 0.4 s" in caught.value.what
    assert caught.value.found == "no connection"


@pytest.mark.parametrize("stated", ["soon", "0", "-1", "nan", "inf", "3601"])
def test_a_timeout_that_is_no_time_is_a_usage_error(stated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYRE_REMOTE_TIMEOUT", stated)
    with serve(DATA) as url, pytest.raises(UsageError) as caught:
        open_remote(url)
    assert caught.value.found == stated


def test_a_connection_that_breaks_off_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byre.storage.http_ranges.PAUSE_SECONDS", 0)
    with serve(DATA, "breaks-off-once") as url, open_remote(url) as storage:
        assert storage.read(3 * BLOCK, 100) == DATA[3 * BLOCK : 3 * BLOCK + 100]


def test_a_server_that_stays_busy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byre.storage.http_ranges.PAUSE_SECONDS", 0)
    with serve(DATA, "busy") as url, open_remote(url) as storage, pytest.raises(StorageError) as caught:
        storage.read(3 * BLOCK, 100)
    assert caught.value.what == "the server can't be read from: it answered HTTP 503"


def test_an_object_store_that_falls_silent_is_given_up_in_the_time_that_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("obstore")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("BYRE_REMOTE_TIMEOUT", "0.4")
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        for name, value in {"AWS_ALLOW_HTTP": "true", "AWS_SKIP_SIGNATURE": "true", "AWS_REGION": "x"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StorageError) as caught:
            open_remote("s3://images/old/xp.raw")
    assert caught.value.what == "the object can't be read: no answer from the store within 0.4 s"


def test_a_server_that_is_not_there_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("byre.storage.http_ranges.RETRIES", 0)
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
