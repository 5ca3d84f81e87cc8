"""Boot code is known by digests of what doesn't change, else by its layout; what hooks the BIOS is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import byre
from byre.volumes import boot_code
from byre.volumes.boot_code import recognise_master, recognise_volume
from oracles import require_tool, run_tool

SAMPLES = Path(byre.__file__).parent / "samples"
CODE = b"\x33\xc0\x8e\xd0\xbc\x00\x7c\xfb" + b"\x90" * 40 + b"\xcd\x13"
"""Our own bytes: a stack, a disk read, nothing that runs."""


def master(messages: tuple[bytes, ...], code: bytes = CODE) -> bytes:
    """A sector with its messages where an MBR of Windows NT has them."""
    sector = bytearray(512)
    sector[: len(code)] = code
    at = 0x12C
    for index, text in enumerate(messages):
        sector[at : at + len(text) + 1] = text + b"\0"
        sector[0x1B5 + index] = at - 0x100
        at += len(text) + 1
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


ENGLISH = (b"First message", b"Second message", b"Third message")
FRENCH = (b"Le premier", b"Le deuxi\x8ame message", b"Le troisi\x8ame")


def test_a_known_code_is_known_in_every_language(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(master(ENGLISH)[:0x12C]).hexdigest()
    monkeypatch.setitem(boot_code.MASTER, digest, "the lab's")
    for messages in (ENGLISH, FRENCH):
        found = recognise_master(master(messages))
        assert (found.loader, found.known) == ("the lab's", True)


def test_a_layout_like_windows_is_told_but_not_known() -> None:
    found = recognise_master(master(FRENCH))
    assert (found.loader, found.known, found.hooks) == ("laid out like Windows'", False, False)


@pytest.mark.parametrize(
    "hook", ["ff0e1304", "832e130402", "a31304", "a34c00", "c7064c00"], ids=lambda text: f"hook {text}"
)
def test_code_that_stays_in_memory_is_told_and_never_passes_for_windows(hook: str) -> None:
    found = recognise_master(master(ENGLISH, CODE + bytes.fromhex(hook)))
    assert (found.loader, found.hooks) == (None, True)


def test_messages_that_are_not_one_after_the_other_are_no_layout() -> None:
    sector = bytearray(master(ENGLISH))
    sector[0x1B6] += 1
    assert recognise_master(bytes(sector)).loader is None


def test_a_boot_sector_is_known_by_what_it_loads() -> None:
    sector = bytearray(b"\xeb\x52\x90NTFS    ".ljust(0x54, b"\0") + CODE)
    assert recognise_volume(bytes(sector.ljust(510, b"\0") + b"\x55\xaa")).loader is None
    named = sector.ljust(510, b"\0") + b"\x55\xaa" + "NTLDR".encode("utf-16-le")
    assert recognise_volume(bytes(named)).loader == "Windows NT's (NTLDR)"
    freeldr = (sector + b"FREELDR SYS").ljust(510, b"\0") + b"\x55\xaa"
    assert (recognise_volume(bytes(freeldr)).loader or "").startswith("ReactOS")


def test_any_bytes_have_an_answer() -> None:
    for size in (0, 1, 3, 511, 512):
        for filler in (b"\xeb", b"\xe9", b"\xff"):
            recognise_master(filler * size)
            recognise_volume(filler * size)


def test_the_samples_have_known_code() -> None:
    with byre.open_disk(SAMPLES / "specimen.qcow2") as disk:
        assert recognise_master(disk.read(0, 512)).known
        assert recognise_volume(disk.read(63 * 512, 8192)).known


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("path", "loader"),
    [
        ("/usr/lib/syslinux/mbr/mbr.bin", "SYSLINUX"),
        ("/usr/lib/syslinux/mbr/gptmbr.bin", "SYSLINUX"),
        ("/usr/lib/grub/i386-pc/boot.img", "GRUB 2"),
    ],
)
def test_the_loaders_of_debian_are_known(path: str, loader: str) -> None:
    assert recognise_master(Path(require_tool(path)).read_bytes()[:440]).loader == loader


@pytest.mark.oracle
@pytest.mark.parametrize("bits", ["12", "16", "32"])
def test_the_dummy_of_mkfs_fat_is_known(tmp_path: Path, bits: str) -> None:
    image = tmp_path / "x.img"
    run_tool("mkfs.fat", "-C", "-F", bits, image, "70000")
    assert recognise_volume(image.read_bytes()[:8192]).known
