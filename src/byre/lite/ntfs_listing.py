"""All that libntfs-3g finds in a volume: the part of the confined program that is a second reader.

Run by ``ntfs_helper``, which finds it beside itself: that program uses nothing of Byre, and its search path is empty.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

DATA = 0x80
REFERENCE_MASK = (1 << 48) - 1
ROOT, UPCASE, FIRST_USER_RECORD = 5, 10, 24
SIZE_OF_UPCASE = 1 << 17
SIZE_IN_ATTRIBUTE = 56
"""Where an ``ntfs_attr`` has ``data_size``: tried on $UpCase, whose size never differs, before it is relied on."""
DT_FOLDER = 4
DOTS = (b".\0", b".\0.\0")
HOLE, UNREADABLE = -1, -5
"""LCN_HOLE and LCN_EIO."""
MANY = 1500
"""Rows in a message: less than 1 MiB of the longest names."""
ROW_OF_NAME, ROW_OF_FILE = struct.Struct("<QQBB"), struct.Struct("<Qqq")
FILL = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
    ctypes.c_uint64,
    ctypes.c_uint,
)


class Listing:
    """All that the library finds in a volume: every name through the directories' indexes, and every file opened.

    Names go out many at a time: how many (u32), for each the folder (u64), its MFT reference (u64), the kind of name
    (u8) and its length (u8), then all the names in UTF-16. Files go out once each and in the order of the table, as
    rows of MFT reference (u64), size (i64, -1 without data) and first cluster (i64, negative where there is none).
    """

    def __init__(self, session: Any) -> None:
        self.session = session
        self.library = session.library
        self.rows: list[bytes] = []
        self.names: list[bytes] = []
        self.found: set[int] = set()
        self.folders: list[int] = []
        self.here = 0
        pointer = ctypes.c_void_p
        types = {
            "ntfs_attr_map_whole_runlist": (ctypes.c_int, pointer),
            "ntfs_attr_vcn_to_lcn": (ctypes.c_int64, pointer, ctypes.c_int64),
            "ntfs_set_shown_files": (ctypes.c_int, pointer, ctypes.c_int, ctypes.c_int, ctypes.c_int),
            "ntfs_readdir": (ctypes.c_int, pointer, pointer, pointer, FILL),
        }
        for name, (result, *arguments) in types.items():
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        self.library.ntfs_set_shown_files(session.handle, 1, 1, 0)

    def run(self) -> None:
        take = FILL(self._name)  # kept alive: the library calls into it
        self.folders = [ROOT]
        for folder in self.folders:  # grows while it is walked
            self.here = folder
            inode = self.session.open(0, folder)
            position = ctypes.c_int64(0)
            ctypes.set_errno(0)
            if self.library.ntfs_readdir(inode, ctypes.byref(position), None, take):
                raise OSError(ctypes.get_errno() or errno.EIO, f"folder {folder & REFERENCE_MASK} can't be listed")
            self.session.close(0, inode)
            self._watch()
            if len(self.rows) >= MANY:
                self._send(b"N")
        self._send(b"N")
        self._check_layout()
        references = sorted(self.found, key=REFERENCE_MASK.__and__)
        for start in range(0, len(references), MANY):
            self.rows.extend(self._files(references[start : start + MANY]))
            self._send(b"F")
            self._watch()

    def _name(self, _: int, name: int, length: int, kind: int, position: int, reference: int, what: int) -> int:
        """One name of a folder. What a callback raises is lost, so nothing here does but by running out of memory."""
        if reference & REFERENCE_MASK < FIRST_USER_RECORD:  # dots in the root, and the file system's own files
            return 0
        data = ctypes.string_at(name, 2 * length)
        if data in DOTS:
            return 0
        self.rows.append(ROW_OF_NAME.pack(self.here, reference, kind & 0xFF, length))
        self.names.append(data)
        if reference not in self.found:
            self.found.add(reference)
            if what == DT_FOLDER:
                self.folders.append(reference)
        return 0

    def _files(self, references: list[int]) -> Iterator[bytes]:
        """Rows of size and first cluster of files' unnamed streams, all of whose runs could be decoded."""
        library, volume = self.library, ctypes.c_void_p(self.session.handle)
        open_inode, close_inode = library.ntfs_inode_open, library.ntfs_inode_close
        open_attribute, close_attribute = library.ntfs_attr_open, library.ntfs_attr_close
        first_cluster, decode = library.ntfs_attr_vcn_to_lcn, library.ntfs_attr_map_whole_runlist
        size_at, pack = ctypes.c_int64.from_address, ROW_OF_FILE.pack
        for reference in references:
            inode = open_inode(volume, reference)
            if not inode:
                self._give_up(reference, "can't be opened")
            attribute = open_attribute(inode, DATA, None, 0)
            size = first = -1
            if attribute:
                first = first_cluster(attribute, 0)
                # Those of a resident one aren't decoded.
                if first == UNREADABLE or (first >= HOLE and decode(attribute)):
                    self._give_up(reference, "has broken runs")
                size = size_at(attribute + SIZE_IN_ATTRIBUTE).value
                close_attribute(attribute)
            if close_inode(inode):
                self._give_up(reference, "can't be closed")
            yield pack(reference, size, first)

    def _give_up(self, reference: int, said: str) -> NoReturn:
        raise OSError(ctypes.get_errno() or errno.EIO, f"MFT record {reference & REFERENCE_MASK} {said}")

    def _check_layout(self) -> None:
        """The one field that is taken out of the library's own structures has to be where it is looked for."""
        _, size, _ = ROW_OF_FILE.unpack(next(self._files([UPCASE])))
        if size != SIZE_OF_UPCASE:
            raise OSError(errno.ENOTSUP, "this libntfs-3g keeps a file's size elsewhere")

    def _send(self, letter: bytes) -> None:
        for start in range(0, len(self.rows), MANY):
            rows, names = self.rows[start : start + MANY], self.names[start : start + MANY]
            count = (struct.pack("<I", len(rows)),) if letter == b"N" else ()
            self.session.pipe.send(letter, *count, *rows, *names)
        self.rows.clear()
        self.names.clear()

    def _watch(self) -> None:
        if self.session.volume.broken is not None:
            raise self.session.volume.broken
