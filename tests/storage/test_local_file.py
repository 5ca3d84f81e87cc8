from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from byre.errors import MissingError, StorageError
from byre.storage.local import open_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 16))
    return path


def test_a_file_truncated_under_us_is_an_error_not_zeros(path: Path) -> None:
    with open_file(path) as file:
        os.truncate(path, 5000)
        with pytest.raises(StorageError) as caught:
            file.read(4096, 4096)
        assert caught.value.found == "904 bytes"
        with pytest.raises(StorageError):
            list(file.data_ranges(0, 1 << 16))


def test_punched_space_reads_as_zeros_and_is_given_back(path: Path) -> None:
    with open_file(path, writable=True) as file:
        before = file.allocated
        assert file.punch(4096, 8192)
        assert file.read(4096, 8192) == bytes(8192)
        assert file.allocated == before - 8192
        assert list(file.data_ranges(0, 1 << 16)) == [(0, 4096), (12288, 1 << 16)]
        assert file.size == 1 << 16


def test_reserved_space_takes_room_and_reads_as_zeros(path: Path) -> None:
    with open_file(path, writable=True) as file:
        assert file.preallocate(1 << 16, 1 << 20)
        assert file.size == (1 << 16) + (1 << 20)
        assert file.allocated >= 1 << 20
        assert file.read(1 << 16, 4096) == bytes(4096)


def test_many_buffers_are_written_one_after_the_other(path: Path) -> None:
    pieces = [os.urandom(7) for _ in range(3000)]
    with open_file(path, writable=True) as file:
        file.write_vector(100, pieces)
        assert file.read(100, 21000) == b"".join(pieces)


def test_a_missing_file_is_missing_and_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        open_file(tmp_path / "none")
    with pytest.raises(StorageError):
        open_file(tmp_path)


_FULL = """
import resource, signal, sys
from byre.storage.local import open_file
from byre.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_file(sys.argv[1], writable=True) as file:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, resource.RLIM_INFINITY))
    half = bytes(1 << 16)
    for write in (lambda: file.write(1 << 16, half * 2), lambda: file.write_vector(1 << 16, [half, half])):
        try:
            write()
        except StorageError as error:
            assert error.offset == 1 << 17 and "ulimit" in error.hint, error
        else:
            raise SystemExit("no error")
"""


def test_a_write_past_the_limit_names_the_limit(path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    subprocess.run([sys.executable, "-c", _FULL, str(path)], check=True)
