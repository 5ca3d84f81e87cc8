"""Keys, pictures, saved states, accelerators, the isolated wire: each small enough for a line or two."""

from __future__ import annotations

import random
import socket
import struct
import time
import zlib
from pathlib import Path

import pytest

from byre.errors import CorruptImageError, UsageError
from byre.machine.account import may
from byre.machine.keys import chord, keys_of
from byre.machine.picture import encode_png, parse_ppm
from byre.machine.qemu.accelerator import choose
from byre.machine.qemu.process import User, advice, start
from byre.machine.qemu.qmp import QmpSilentError
from byre.machine.relay import Relay
from byre.machine.vm_state import SavedMachine, saved_machine


def test_text_becomes_keys_of_a_us_board() -> None:
    assert keys_of("aB:\n") == (("a",), ("shift", "b"), ("shift", "semicolon"), ("ret",))
    assert chord("Ctrl-Alt-Del") == ("ctrl", "alt", "delete")
    for wrong in ("é", "\x00"):
        with pytest.raises(UsageError):
            keys_of(wrong)
    for wrong in ("ctrl-nonsense", "", "a-b-c-d-e-f-g"):
        with pytest.raises(UsageError):
            chord(wrong)


def test_every_character_of_a_us_board_can_be_typed() -> None:
    assert all(len(keys) <= 2 for keys in keys_of("".join(map(chr, range(32, 127)))))


def test_a_picture_survives_the_way_to_png() -> None:
    pixels = random.Random(3).randbytes(5 * 4 * 3)
    picture = parse_ppm(b"P6\n5 4\n255\n" + pixels)
    data = encode_png(picture)
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (5, 4)
    (length,) = struct.unpack(">I", data[33:37])
    rows = zlib.decompress(data[41 : 41 + length])
    assert b"".join(rows[row * 16 + 1 : row * 16 + 16] for row in range(4)) == pixels


@pytest.mark.parametrize(
    "data", [b"", b"P5\n1 1\n255\n1", b"P6\n99999 99999\n255\n", b"P6\n2 2\n255\nabc", b"P6 0 1 255 "]
)
def test_a_picture_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptImageError):
        parse_ppm(data)


def state(kind: bytes = b"pc-i440fx-7.2", memory: int = 64 << 20) -> bytes:
    head = b"QEVM" + struct.pack(">IBI", 3, 7, len(kind)) + kind
    head += struct.pack(">BIB", 1, 2, 3) + b"ram" + struct.pack(">II", 0, 4)
    return head + struct.pack(">QB", memory + 4, 6) + b"pc.ram" + struct.pack(">Q", memory)


def said(data: bytes) -> SavedMachine:
    return saved_machine(lambda offset, length: data[offset : offset + length], len(data))


def test_a_saved_state_says_its_machine_and_memory() -> None:
    assert said(state()) == SavedMachine("pc-i440fx-7.2", 64 << 20)
    assert said(state(b"pc-i440fx-7.2,accel=x")).type is None, "a name from an image is no option of QEMU's"


def test_a_damaged_state_says_nothing_and_harms_nobody() -> None:
    whole = state()
    chance = random.Random(11)
    for length in range(len(whole)):
        said(whole[:length])
    for _ in range(500):
        data = bytearray(whole)
        data[chance.randrange(len(data))] = chance.randrange(256)
        said(bytes(data))


def test_an_accelerator_is_chosen_with_a_reason(tmp_path: Path) -> None:
    missing = choose(device=str(tmp_path / "none"))
    assert missing.name == "tcg" and "no KVM" in missing.sentence
    wrong = choose(device="/dev/null")
    assert wrong.name == "tcg" and "isn't KVM" in wrong.sentence
    assert choose("tcg").name == "tcg"
    with pytest.raises(UsageError):
        choose("turbo")


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("qemu: Could not access KVM kernel module: Permission denied", "--accel tcg"),
        ("qemu: -vnc 127.0.0.1:0: Failed to find an available port: Address already in use", "port"),
        ('Failed to get "write" lock\nIs another process using the image?', "shut it down"),
        ("cannot set up guest memory 'pc.ram': Cannot allocate memory", "memory"),
        ("something new", "--dry-run"),
    ],
)
def test_what_qemu_says_comes_with_a_next_step(words: str, step: str) -> None:
    assert step in advice(words)


def test_a_qemu_that_stays_silent_is_an_error_within_the_time(tmp_path: Path) -> None:
    process = start(["sleep", "86400"], tmp_path)
    try:
        with pytest.raises(QmpSilentError):
            process.connect(timeout=0.6)
        assert process.process.poll() is None, "it was silent until the time was up"
    finally:
        process.end()
    assert process.process.poll() is not None


def test_an_account_may_open_what_owner_group_and_mode_allow(tmp_path: Path) -> None:
    image = tmp_path / "x"
    image.touch()
    status = image.stat()
    for folder in (tmp_path, image):
        folder.chmod(0o750 if folder.is_dir() else 0o640)
    reachable = all(folder.stat().st_mode & 1 for folder in tmp_path.resolve().parents)
    owner = User("owner", status.st_uid, 1 << 30)
    member = User("member", 1 << 30, 1 << 30, (status.st_gid,))
    stranger = User("stranger", 1 << 30, 1 << 30)
    assert may(owner, image, write=True) or not reachable
    assert may(member, image) == reachable and not may(member, image, write=True)
    assert not may(stranger, image) and not may(stranger, tmp_path / "none")


def test_frames_reach_the_other_guests_and_not_their_sender(tmp_path: Path) -> None:
    guests, relays = [], []
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        guest = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        guest.bind(str(tmp_path / name / "net.sock"))
        guest.settimeout(60)
        guests.append(guest)
        relays.append(Relay(tmp_path / name))
    guests[0].sendto(b"frame", str(tmp_path / "one" / "relay.sock"))
    assert guests[1].recv(100) == guests[2].recv(100) == b"frame"
    guests[0].settimeout(0.2)
    with pytest.raises(TimeoutError):
        guests[0].recv(100)
    guests[2].close()
    (tmp_path / "three" / "net.sock").unlink()
    time.sleep(1.1)
    guests[0].sendto(b"again", str(tmp_path / "one" / "relay.sock"))
    assert guests[1].recv(100) == b"again"
    for relay in relays:
        relay.close()
    for guest in guests:
        guest.close()
