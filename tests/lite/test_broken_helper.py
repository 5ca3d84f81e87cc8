"""The NTFS helper killed, fed errors of the disk, or replaced by a program that does what it may not: each time one
error, nothing written outside of the volume, nothing left running."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from builders.changed_volumes import change, holds
from builders.ntfs_volumes import mkntfs, mounted, need
from byre.cli.main import main
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk, open_scratch
from byre.errors import ByreError, CorruptImageError, StorageError
from byre.filesystems.opening import open_volumes
from byre.lite import ntfs_program
from byre.lite.applying import apply_changes
from byre.lite.changes import Change, Content, MakeFolder, Put, Remove
from byre.lite.witnesses import asking

pytestmark = pytest.mark.oracle

CASES = int(os.environ.get("BYRE_CHANGE_CASES", "12"))
CHANGES: list[Change] = [
    Remove("/many"),
    MakeFolder("/new"),
    Put("/new/file.bin", Content.of(bytes(300_000))),
    Put("/kept.txt", Content.of(b"other")),
]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("mkntfs", "ntfs-3g")
    image = mkntfs(tmp_path_factory.mktemp("volume") / "volume.img", 16 << 20)
    with mounted(image) as root:
        (root / "many").mkdir()
        for number in range(300):
            (root / "many" / f"file number {number}.txt").write_bytes(bytes(number * 30))
        (root / "kept.txt").write_bytes(b"kept")
    return image


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> object:
    yield None
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    left = children.read_text().split() if children.exists() else []
    helpers = [pid for pid in left if "ntfs_helper" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert not helpers


def _count_messages(volume: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, kill: int = 0) -> int:
    """Change the volume, killing the helper after it has sent so many messages; how many there were."""
    message = ntfs_program._Server._message
    count = 0

    def counted(self: ntfs_program._Server) -> tuple[bytes, bytes]:
        nonlocal count
        count += 1
        if count == kill:
            os.kill(self.process.pid, signal.SIGKILL)
        return message(self)

    with monkeypatch.context() as patched:
        patched.setattr(ntfs_program._Server, "_message", counted)
        change(volume, CHANGES, folder / "out.img")
    return count


def test_a_helper_killed_at_any_message_is_an_error(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = volume.read_bytes()
    count = _count_messages(volume, tmp_path, monkeypatch)
    whole = holds(tmp_path / "out.img")
    rng = random.Random(7)
    failed = 0
    for number in sorted({1, 2, count // 2, *rng.sample(range(1, count), min(CASES, count - 1))}):
        (tmp_path / "out.img").unlink(missing_ok=True)
        try:
            _count_messages(volume, tmp_path, monkeypatch, kill=number)
        except CorruptImageError as error:
            assert error.found == "signal 9" and error.hint is not None
            assert not (tmp_path / "out.img").exists()
            failed += 1
        else:  # it had said everything by then: how far it runs ahead is the pipe's matter
            assert holds(tmp_path / "out.img") == whole
    assert failed > 2
    assert volume.read_bytes() == before


@pytest.mark.parametrize("what", ["read_into", "write"])
def test_a_scratch_disk_that_fails_is_an_error_of_its_own(
    what: str, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = volume.read_bytes()
    real = getattr(ScratchDisk, what)
    rng = random.Random(8)
    counts = {"calls": 0, "fail": 0}

    def failing(self: ScratchDisk, *arguments: object) -> None:
        counts["calls"] += 1
        if counts["calls"] == counts["fail"]:
            raise StorageError("it failed: Input/output error", path="scratch", offset=counts["calls"])
        real(self, *arguments)

    monkeypatch.setattr(ScratchDisk, what, failing)
    with open_disk(volume, format="raw") as disk:
        work = open_scratch(disk, tmp_path)
        apply_changes(work, open_volumes(disk)[0], CHANGES)
        work.close()
        total = counts["calls"]
        assert total > 5
        for number in sorted({1, total, *rng.sample(range(1, total), min(CASES, total - 1))}):
            counts.update(calls=0, fail=number)
            work = open_scratch(disk, tmp_path)
            try:
                with pytest.raises(StorageError) as caught:
                    apply_changes(work, open_volumes(disk)[0], CHANGES)
            finally:
                work.close()
            assert caught.value.offset == number and caught.value.path == "scratch"
    assert volume.read_bytes() == before


READ = "import os,struct,sys,json\ntake=lambda n: os.read(0, n)\nhead=take(5)\n"
SAY = "say=lambda letter, data: os.write(1, letter+struct.pack('<I',len(data))+data)\n"
WRONG = {
    "ends at once": "",
    "ends after the script": READ,
    "writes past the volume": READ + SAY + "say(b'W', struct.pack('<Q', 1<<40)+b'x'*512)\ntake(1<<20)",
    "writes across the end": READ + SAY + "say(b'W', struct.pack('<Q', (16<<20)-256)+b'x'*512)\ntake(1<<20)",
    "reads past the volume": READ + SAY + "say(b'R', struct.pack('<QI', 1<<62, 512))\ntake(1<<20)",
    "reads too much": READ + SAY + "say(b'R', struct.pack('<QI', 0, 1<<31))\ntake(1<<20)",
    "wants other content": READ + SAY + "say(b'P', struct.pack('<IQI', 77, 0, 512))\ntake(1<<20)",
    "wants too much content": READ + SAY + "say(b'P', struct.pack('<IQI', 0, 1<<60, 512))\ntake(1<<20)",
    "says a long message": READ + "os.write(1, b'W'+struct.pack('<I', 1<<31))\ntake(1<<20)",
    "says half a message": READ + "os.write(1, b'W'+struct.pack('<I', 4096)+b'half')",
    "says an unknown letter": READ + SAY + "say(b'Z', b'')\ntake(1<<20)",
    "says short messages": READ + SAY + "say(b'W', b'x')\ntake(1<<20)",
    "ends with nonsense": READ + SAY + "say(b'E', b'{')\ntake(1<<20)",
    "ends with a list": READ + SAY + "say(b'E', b'[]')\ntake(1<<20)",
    "ends in depths": READ + SAY + "say(b'E', b'['*200000)\ntake(1<<20)",
    "ends without a reason": READ + SAY + "say(b'E', b'{}')\ntake(1<<20)",
    "ends with odd fields": READ + SAY + "say(b'E', json.dumps({'ok': 1, 'index': -5, 'errno': []}).encode())",
    "closes its ears": READ + SAY + "os.close(0)\n[say(b'R', struct.pack('<QI', 0, 65536)) for _ in range(99)]",
    "never listens": READ + SAY + "while 1: say(b'R', struct.pack('<QI', 0, 1<<20))",
    "crashes": READ + "os.kill(os.getpid(), 11)",
}


@pytest.mark.parametrize("program", WRONG)
def test_a_helper_that_does_what_it_may_not_is_one_error(
    program: str, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "ntfs_helper.py"
    helper.write_text(WRONG[program])
    monkeypatch.setattr(ntfs_program, "HELPER", helper)
    monkeypatch.setattr(ntfs_program, "SILENCE", 1)
    before = volume.read_bytes()
    # A script longer than a pipe holds, so that it can't be left there unread.
    many: list[Change] = [*CHANGES, *(MakeFolder(f"/folder {number} {'x' * 200}") for number in range(400))]
    with pytest.raises(ByreError) as caught:
        change(volume, many, tmp_path / "out.img")
    assert isinstance(caught.value, (CorruptImageError, StorageError))
    assert caught.value.path is not None and caught.value.what
    assert volume.read_bytes() == before and not (tmp_path / "out.img").exists()


def test_a_helper_that_writes_everywhere_stays_in_the_volume(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may spoil the volume, and the proof will say so; but not what lies beside it."""
    disk_image = tmp_path / "disk.img"
    start, size = 1 << 20, volume.stat().st_size
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 7, b"\0\2\0", start // 512, size // 512)
    table = bytes(446) + entry + bytes(48) + b"\x55\xaa"
    disk_image.write_bytes(table.ljust(start, b"M") + volume.read_bytes() + b"E" * (1 << 20))
    helper = tmp_path / "ntfs_helper.py"
    places = [0, 65536, size - 65536, size - 1]
    wild = [f"say(b'W', struct.pack('<Q', {place})+b'w'*{min(65536, size - place)})" for place in places]
    end = "say(b'E', json.dumps({'ok': True, 'confined': 'no'}).encode())\ntake(1<<20)"
    helper.write_text("\n".join([READ + SAY, *wild, end]))
    monkeypatch.setattr(ntfs_program, "HELPER", helper)
    with open_disk(disk_image, format="raw") as disk:
        work = open_scratch(disk, tmp_path)
        try:
            apply_changes(work, open_volumes(disk)[0], CHANGES)
            ranges = list(work.changes())
        finally:
            work.close()
    assert ranges and min(low for low, _ in ranges) >= start and max(high for _, high in ranges) <= start + size


DONE = "say(b'E', json.dumps({'ok': True, 'confined': 'no'}).encode())\ntake(1<<20)"
LYING = {
    "did nothing": READ + SAY + DONE,
    "spoilt the volume": READ + SAY + "say(b'W', struct.pack('<Q', 4<<20)+b'w'*65536)\n" * 3 + DONE,
}


@pytest.mark.parametrize("program", LYING)
@pytest.mark.parametrize("words", [("rm", "/many/*"), ("put", "new.txt", "/new.txt")])
def test_what_a_lying_helper_made_is_never_published(
    words: tuple[str, ...], program: str, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "ntfs_helper.py"
    helper.write_text(LYING[program])
    monkeypatch.setattr(ntfs_program, "HELPER", helper)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.txt").write_bytes(b"new")
    before = volume.read_bytes()
    assert main([words[0], str(volume), *words[1:], "-o", "out.img"]) == 65
    assert volume.read_bytes() == before and not (tmp_path / "out.img").exists()


SEALED = """
import ctypes, os, resource, runpy, signal, socket, sys
seal = runpy.run_path(sys.argv[1])["seal"]
parent, numbers = os.getppid(), {"x86_64": 234, "aarch64": 131}
call, libc = numbers[os.uname().machine], ctypes.CDLL(None, use_errno=True)
tries = {
    "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "connect": lambda: socket.socket(),
    "start": lambda: os.fork() or os._exit(0),
    "kill": lambda: os.kill(parent, 0),
    "tgkill": lambda: libc.syscall(call, parent, parent, 0),
    "prlimit": lambda: resource.prlimit(parent, resource.RLIMIT_CORE),
}
if sys.argv[2] == "sealed" and not seal():
    sys.exit(3)
done = []
for name, attempt in tries.items():
    try:
        if attempt() != -1:
            done.append(name)
    except OSError:
        pass
print(*done)
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.parametrize(("how", "works"), [("free", "open connect start kill tgkill prlimit"), ("sealed", "")])
def test_the_sealed_program_reaches_nothing_outside(how: str, works: str) -> None:
    """Its parent runs as the same user: a signal, or a limit, would be enough to end it."""
    if sys.platform != "linux" or os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("there is a seccomp filter for Linux on x86-64 and arm64")
    module = Path(ntfs_program.HELPER).with_name("ntfs_confinement.py")
    done = subprocess.run(
        [sys.executable, "-c", SEALED, module, how], capture_output=True, text=True, timeout=60, check=True
    )
    assert set(done.stdout.split()) == set(works.split())


def test_a_second_reader_that_goes_on_for_ever_is_not_waited_for_once_the_proof_has_failed(
    volume: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    helper = tmp_path / "ntfs_helper.py"
    helper.write_text(READ + SAY + "while 1: say(b'R', struct.pack('<QI', 0, 4096)); take(4096 + 5)")
    monkeypatch.setattr(ntfs_program, "HELPER", helper)
    everything = np.array([[0, volume.stat().st_size]], dtype=np.int64)
    with open_disk(volume, format="raw") as disk, pytest.raises(StorageError, match="the proof's own"):
        volumes = open_volumes(disk)
        with asking(disk, [*volumes, *volumes], everything, [0]):
            raise StorageError("the proof's own")
