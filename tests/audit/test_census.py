"""The census reads every file once and tells what is a program by its bytes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

import pefile
import pytest

from builders import xp
from builders.catalogs import catalog_of
from builders.memory_files import MemoryFiles
from builders.pe import PeSpec, build_pe
from byre.audit import census as module
from byre.audit.census import take_census
from byre.audit.census_of import census_of
from byre.audit.facts import Census, Hit, ProgramFile, Scan
from byre.audit.program_files import MIN_ENTROPY_BYTES, describe, entropy
from byre.audit.scanners import Scanners
from byre.errors import UnsupportedError
from byre.filesystems.base import Entry, Stream

PROGRAM = build_pe(PeSpec(name="a.dll", strings={"CompanyName": "Byre"}))


def census(files: dict[str, bytes], **options: object) -> tuple[dict[str, ProgramFile], Census]:
    programs, told = take_census(MemoryFiles(files), **options)  # type: ignore[arg-type]
    return {each.path: each for each in programs}, told


def test_a_program_is_known_by_its_bytes_not_by_its_name() -> None:
    programs, told = census({"/a.txt": PROGRAM, "/b.exe": b"no program" * 100, "/c.exe": b"MZ"})
    assert set(programs) == {"/a.txt"}
    assert told.files == 3


def test_digests_are_those_of_the_bytes() -> None:
    found = census({"/a.dll": PROGRAM})[0]["/a.dll"]
    assert found.md5 == hashlib.md5(PROGRAM).hexdigest()
    assert found.sha1 == hashlib.sha1(PROGRAM).hexdigest()
    assert found.sha256 == hashlib.sha256(PROGRAM).hexdigest()
    assert (found.size, found.company, found.packed) == (len(PROGRAM), "Byre", None)


def test_the_authenticode_digest_leaves_the_checksum_out() -> None:
    changed = bytearray(PROGRAM)
    changed[pefile.PE(data=PROGRAM).OPTIONAL_HEADER.get_field_absolute_offset("CheckSum")] ^= 0xFF
    one, two = describe(PROGRAM, "/a"), describe(bytes(changed), "/a")
    assert one.sha1 != two.sha1
    assert one.authenticode_sha1 == two.authenticode_sha1


@pytest.mark.parametrize("odd", [0, 1])
def test_the_checksum_is_that_of_another_reader_wherever_the_header_lies(odd: int) -> None:
    data = bytearray(PROGRAM)
    if odd:  # the header one byte further on: the field straddles the words that are summed
        at = int.from_bytes(data[60:64], "little")
        data[at + 1 : at + 400] = data[at : at + 399]
        data[60:64] = (at + 1).to_bytes(4, "little")
    pe = describe(bytes(data), "/a").pe
    assert pe is not None
    assert pe.computed_checksum == pefile.PE(data=bytes(data), fast_load=True).generate_checksum()


def test_a_program_in_a_named_stream_is_found() -> None:
    class Streams(MemoryFiles):
        def _entry(self, key: str) -> Entry:
            entry = super()._entry(key)
            return entry._replace(streams=(Stream("x", len(PROGRAM), 0),)) if key == "/a.txt" else entry

        def read(self, entry: Entry, stream: str = "", offset: int = 0, length: int | None = None) -> bytes:
            data = PROGRAM if stream else super().read(entry)
            return data[offset : None if length is None else offset + length]

    programs, _ = take_census(Streams({"/a.txt": b"text"}))
    assert [(each.path, each.stream) for each in programs] == [("/a.txt:x", True)]


def test_hard_links_are_read_once_and_told_under_each_name() -> None:
    class Linked(MemoryFiles):
        reads = 0

        def _entry(self, key: str) -> Entry:
            entry = super()._entry(key)
            return entry if entry.is_dir else entry._replace(id=7, links=2)

        def read(self, entry: Entry, stream: str = "", offset: int = 0, length: int | None = None) -> bytes:
            Linked.reads += 1
            return super().read(entry, stream, offset, length)

    programs, _ = take_census(Linked({"/a.dll": PROGRAM, "/b.dll": PROGRAM}))
    assert [each.path for each in programs] == ["/a.dll", "/b.dll"]
    assert Linked.reads == 1


def test_what_cannot_be_read_is_skipped_and_told() -> None:
    programs, told = take_census(MemoryFiles({"/a.dll": PROGRAM, "/b.dll": PROGRAM}, frozenset({"/a.dll"})))
    assert [each.path for each in programs] == ["/b.dll"]
    assert [(each.path, each.reason) for each in told.skipped] == [("/a.dll", "its clusters lie outside the volume")]


def test_a_large_program_has_plain_digests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WHOLE", 1000)
    found = census({"/a.dll": PROGRAM})[0]["/a.dll"]
    assert found.sha256 == hashlib.sha256(PROGRAM).hexdigest()
    assert found.authenticode_sha1 is None
    assert found.pe is not None
    assert "only its digests" in (found.pe.problem or "")


def test_many_files_come_in_the_order_of_the_walk() -> None:
    files = {f"/{number:04}.dll": PROGRAM for number in range(500)}
    programs, _ = take_census(MemoryFiles(files), workers=3)
    assert [each.path for each in programs] == list(files)


class _Scanner:
    name = "lab"
    max_size = 1 << 20

    def wants(self, path: str, size: int) -> bool:
        return path.endswith(".txt")

    def scan(self, path: str, data: bytes) -> Iterable[Hit]:
        if b"refuse" in data:
            raise UnsupportedError("it took too long", path=path)
        return [Hit(path, "found")] if b"bad" in data else []

    def report(self) -> Scan:
        return Scan(self.name, used=True)


def test_a_scanner_sees_what_it_wants_and_every_program() -> None:
    files = {
        "/a.txt": b"bad",
        "/b.txt": b"refuse",
        "/c.dat": b"bad",
        "/d.dat": PROGRAM + b"bad",
        "/e.txt": bytes(2 << 20),
    }
    scan = census(files, scanners=[_Scanner()])[1].scans[0]
    assert [hit.path for hit in scan.hits] == ["/a.txt", "/d.dat"]
    assert {each.path: each.reason for each in scan.skipped} == {
        "/b.txt": "it took too long",
        "/e.txt": "larger than 1 MiB",
    }


def test_random_bytes_are_packed_and_text_is_not() -> None:
    assert (entropy(random.Random(1).randbytes(8192)) or 0) > 7.9
    assert (entropy(b"The quick brown fox jumps over the lazy dog. " * 200) or 9) < 5
    assert entropy(b"\0" * MIN_ENTROPY_BYTES) == 0
    assert entropy(b"\0\1" * (MIN_ENTROPY_BYTES // 2)) == 1
    assert entropy(b"\0" * (MIN_ENTROPY_BYTES - 1)) is None


def test_damaged_programs_end_with_a_reason() -> None:
    chance = random.Random(5)
    for _ in range(300):
        data = bytearray(PROGRAM)
        for _ in range(chance.randrange(1, 30)):
            data[chance.randrange(600)] = chance.randrange(256)
        found = describe(bytes(data), "/x")
        assert found.pe is not None


def test_a_file_that_a_catalog_of_the_guest_lists_is_known() -> None:
    plain = census({"/a.dll": PROGRAM})[0]["/a.dll"]
    assert plain.authenticode_sha1
    cat = f"{xp.SYSTEM32}/CatRoot/{{F750E6C3-38EE-11D1-85E5-00C04FC295EE}}/nt5.cat"
    files = {
        "/a.dll": PROGRAM,
        "/b.dll": build_pe(PeSpec(name="b.dll")),
        cat: catalog_of([bytes.fromhex(plain.authenticode_sha1)]),
        cat.replace("nt5", "broken"): b"no catalog",
    }
    programs, told = census_of(MemoryFiles(files), xp.ROOT, Scanners())
    assert {each.path: each.known for each in programs.value or ()} == {"/a.dll": "nt5.cat", "/b.dll": None}
    assert told.catalog_digests == 1
    assert len(told.catalog_problems) == 1
