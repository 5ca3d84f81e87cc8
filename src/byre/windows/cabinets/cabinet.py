"""A cabinet in memory: its list of files, and their bytes.

Files lie one behind the other in folders; a folder is one compressed stream in blocks of 32 KiB. Stored, MSZIP and
LZX are read, Quantum is not. Source: [MS-CAB] "Cabinet File Format".
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from byre.errors import ByreError, CorruptImageError, UnsupportedError
from byre.windows.cabinets.lzx import FRAME, LzxDecoder

MAGIC = b"MSCF"
MAX_FILES = 65_535
MAX_FOLDER = 256 << 20
"""Bytes of one folder, expanded: driver.cab, the largest of the media, has 73 MB. All of it is in memory, and a
cabinet of 500 KB can say that it holds this much."""
MAX_FILE = 128 << 20
MAX_KEPT = 64 << 20
_HEADER = struct.Struct("<4sIIIIIBBHHHHH")
_PREVIOUS, _NEXT, _RESERVE = 1, 2, 4
_CONTINUED = 0xFFFD
_METHODS = {0: "stored", 1: "MSZIP", 2: "Quantum", 3: "LZX"}


@dataclass(frozen=True, slots=True)
class CabinetFile:
    """One file. ``offset`` counts bytes of its folder's expanded stream."""

    name: str
    size: int
    folder: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Folder:
    start: int
    blocks: int
    method: int
    parameter: int


class Cabinet:
    """A cabinet. Mutable: it keeps what it has expanded of its folders, so that each is expanded once, whatever the
    order in which files are asked for; the oldest go where that would be more than ``MAX_KEPT``."""

    def __init__(
        self, data: bytes, files: tuple[CabinetFile, ...], folders: tuple[_Folder, ...], reserve: int, path: str
    ) -> None:
        self.files = files
        self.path = path
        self._data = data
        self._folders = folders
        self._reserve = reserve
        self._streams: dict[int, _Stream] = {}

    def read(self, file: CabinetFile) -> bytes:
        """A file's bytes. Raises CorruptImageError, and UnsupportedError for Quantum and for what goes on in
        another cabinet."""
        if file.folder >= _CONTINUED:
            raise UnsupportedError(f"{file.name!r} goes on in another cabinet", path=self.path)
        if file.size > MAX_FILE:
            raise CorruptImageError(f"{file.name!r} is too large", path=self.path, found=file.size, expected=MAX_FILE)
        end = file.offset + file.size
        data = self._stream(file.folder).read(file.offset, end)
        if len(data) != file.size:
            raise CorruptImageError(f"{file.name!r} is cut off", path=self.path, found=len(data), expected=file.size)
        return data

    def _stream(self, number: int) -> _Stream:
        """The stream of a folder, as far as it has been expanded."""
        if number not in self._streams:
            if number >= len(self._folders):
                raise CorruptImageError("a file names a folder that isn't there", path=self.path, found=number)
            folder = self._folders[number]
            while self._streams and sum(each.size for each in self._streams.values()) > MAX_KEPT:
                del self._streams[next(iter(self._streams))]
            self._streams[number] = _Stream(self._blocks(folder), self._decoder(folder), self.path)
        return self._streams[number]

    def _decoder(self, folder: _Folder) -> Callable[[bytes, int], bytes]:
        if folder.method == 0:
            return _stored
        if folder.method == 1:
            return _MsZip(self.path).block
        if folder.method == 3:
            return LzxDecoder(folder.parameter, path=self.path).frame
        method = _METHODS.get(folder.method, str(folder.method))
        raise UnsupportedError(f"the compression {method} isn't read", path=self.path)

    def _blocks(self, folder: _Folder) -> Iterator[tuple[bytes, int]]:
        """(packed bytes, length expanded) of each block."""
        at = folder.start
        for _ in range(folder.blocks):
            if at + 8 > len(self._data):
                raise CorruptImageError("a block lies outside the cabinet", path=self.path, offset=at)
            said, packed, length = struct.unpack_from("<IHH", self._data, at)
            head = self._data[at + 4 : at + 8 + self._reserve]
            at += 8 + self._reserve
            if at + packed > len(self._data) or length > FRAME:
                raise CorruptImageError("a block is cut off or too large", path=self.path, offset=at, found=length)
            if said:  # 0: the writer made none
                found = _checksum(head) ^ _checksum(self._data[at : at + packed])
                if found != said:
                    raise CorruptImageError(
                        "a block's checksum is wrong",
                        path=self.path,
                        offset=at,
                        found=f"{found:#x}",
                        expected=f"{said:#x}",
                    )
            yield self._data[at : at + packed], length
            at += packed


def _checksum(data: bytes) -> int:
    """Words XORed; of the bytes left over the first is the highest."""
    whole = len(data) & ~3
    rest = int.from_bytes(data[whole:], "big")
    return int(np.bitwise_xor.reduce(np.frombuffer(data, dtype="<u4", count=whole // 4))) ^ rest if whole else rest


class _Stream:
    """A folder's expanded bytes, from its start on. Mutable: it grows as far as it is asked for. One that turned out
    to be damaged stays so: its decoder's state is lost."""

    def __init__(self, blocks: Iterator[tuple[bytes, int]], decode: Callable[[bytes, int], bytes], path: str) -> None:
        self._blocks = blocks
        self._decode = decode
        self._path = path
        self._data = bytearray()
        self._problem: ByreError | None = None

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, start: int, end: int) -> bytes:
        """The bytes of a range; short where the stream ends."""
        if end > MAX_FOLDER:
            raise CorruptImageError("the folder is too large", path=self._path, found=end, expected=MAX_FOLDER)
        while len(self._data) < end:
            if self._problem is not None:
                raise self._problem
            try:
                packed, length = next(self._blocks)
                self._data += self._decode(packed, length)
            except StopIteration:
                break
            except ByreError as error:
                self._problem = error
                raise
        return bytes(memoryview(self._data)[start:end])


def _stored(packed: bytes, length: int) -> bytes:
    return packed[:length].ljust(length, b"\0")


class _MsZip:
    """Deflate in blocks, each with the one before as its dictionary. Mutable: it keeps that."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._before = b""

    def block(self, packed: bytes, length: int) -> bytes:
        if packed[:2] != b"CK":
            raise CorruptImageError("an MSZIP block doesn't begin with CK", path=self._path, found=packed[:2])
        try:
            engine = zlib.decompressobj(-15, self._before) if self._before else zlib.decompressobj(-15)
            data = engine.decompress(packed[2:], length)
        except zlib.error as error:
            raise CorruptImageError(f"an MSZIP block can't be expanded: {error}", path=self._path) from error
        if len(data) != length:
            raise CorruptImageError("an MSZIP block is short", path=self._path, found=len(data), expected=length)
        self._before = (self._before + data)[-FRAME:]
        return data


def is_cabinet(head: bytes) -> bool:
    """Whether a file that begins like this is a cabinet."""
    return head[:4] == MAGIC


def open_cabinet(data: bytes, *, path: str) -> Cabinet:
    """The cabinet in these bytes. Raises CorruptImageError."""
    try:
        return _open(data, path)
    except struct.error as error:
        raise CorruptImageError("the cabinet is cut off", path=path, found=len(data)) from error


def _open(data: bytes, path: str) -> Cabinet:
    fields = _HEADER.unpack_from(data)
    magic, _, _, _, files_at, _, _, major, folder_count, file_count, flags, _, _ = fields
    if magic != MAGIC or major != 1:
        raise CorruptImageError("is no cabinet", path=path, found=magic, expected=MAGIC)
    at, folder_reserve, block_reserve = _HEADER.size, 0, 0
    if flags & _RESERVE:
        own, folder_reserve, block_reserve = struct.unpack_from("<HBB", data, at)
        at += 4 + own
    for flag in (_PREVIOUS, _NEXT):
        if flags & flag:
            for _ in range(2):  # the cabinet's name and the disk's
                at = _text_end(data, at, path)
    folders = []
    for _ in range(folder_count):
        start, blocks, kind = struct.unpack_from("<IHH", data, at)
        folders.append(_Folder(start, blocks, kind & 0xF, kind >> 8 & 0x1F))
        at += 8 + folder_reserve
    files = []
    at = files_at
    for _ in range(file_count):
        size, offset, folder, _, _, attributes = struct.unpack_from("<IIHHHH", data, at)
        end = _text_end(data, at + 16, path)
        encoding = "utf-8" if attributes & 0x80 else "cp1252"
        name = data[at + 16 : end - 1].decode(encoding, "replace").replace("\\", "/")
        files.append(CabinetFile(name, size, folder, offset))
        at = end
    return Cabinet(data, tuple(files), tuple(folders), block_reserve, path)


def _text_end(data: bytes, at: int, path: str) -> int:
    end = data.find(b"\0", at, at + 257)
    if end < 0:
        raise CorruptImageError("a name in the cabinet has no end", path=path, offset=at)
    return end + 1


def expand(data: bytes, *, path: str) -> tuple[str, bytes]:
    """(name, bytes) of the one file in a compressed file of the media (``NTDLL.DL_``). Raises CorruptImageError and
    UnsupportedError."""
    cabinet = open_cabinet(data, path=path)
    if len(cabinet.files) != 1:
        raise CorruptImageError("holds more than one file", path=path, found=len(cabinet.files), expected=1)
    return cabinet.files[0].name, cabinet.read(cabinet.files[0])
