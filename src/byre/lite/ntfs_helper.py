"""The confined program that changes an NTFS volume with libntfs-3g, or lists one. Started, never imported.

It holds no file: what it reads and writes of the volume goes over two pipes. Standard input brings a script and the
bytes that are asked for; standard output takes requests, writes and results. One message is a letter, a length
(u32, little-endian) and that many bytes:

====  ==========  ==========================================================================
to    letter      bytes
====  ==========  ==========================================================================
us    S           JSON: the volume's size in bytes; the operations, or ``list``
us    D           what ``R`` or ``P`` asked for, exactly as long
out   R           offset u64, length u32: bytes of the volume are wanted
out   P           number u32, offset u64, length u32: bytes of a file to be put are wanted
out   W           offset u64, then the bytes that this place of the volume holds from now on
out   N, F        with ``list`` in the script: names and files, as ``ntfs_listing`` says
out   O           how many operations are done, u32
out   E           JSON: the end, with what went wrong if anything did
====  ==========  ==========================================================================

It uses nothing but the standard library, and nothing of Byre. When it runs it is joined with libntfs-3g, which is
free under version 2 of the GPL or any later one; taken under version 3, that goes with this file's Apache-2.0.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import ctypes.util
import errno
import io
import json
import os
import runpy
import struct
import sys
from pathlib import Path
from typing import Any

HEAD = struct.Struct("<cI")
PAGE = 1 << 14
BLOCK = 1 << 12
CACHED_PAGES = 2048
PAGES_AHEAD = 32
"""Pages that are asked for at once where the library reads on from one to the next, as it does the MFT."""
MAX_PUT = 1 << 20
LIBRARIES = ("libntfs-3g.so.89", "libntfs-3g.so.90", "libntfs-3g.so.91", "libntfs-3g.so.883", "libntfs-3g.so")
READ_ONLY = 1
"""NTFS_MNT_RDONLY."""
S_IFREG, S_IFDIR = 0o100000, 0o040000
STANDARD_INFORMATION, DATA = 0x10, 0x80
SECURITY_ID_OFFSET = 52
TIMES_OF_CONTENT = 2 | 4
"""NTFS_UPDATE_MTIME and NTFS_UPDATE_CTIME."""
REFERENCE_MASK = (1 << 48) - 1

Device = ctypes.c_void_p
OPEN = ctypes.CFUNCTYPE(ctypes.c_int, Device, ctypes.c_int, use_errno=True)
CLOSE = ctypes.CFUNCTYPE(ctypes.c_int, Device, use_errno=True)
SEEK = ctypes.CFUNCTYPE(ctypes.c_int64, Device, ctypes.c_int64, ctypes.c_int, use_errno=True)
READ = ctypes.CFUNCTYPE(ctypes.c_int64, Device, ctypes.c_void_p, ctypes.c_int64, use_errno=True)
PREAD = ctypes.CFUNCTYPE(ctypes.c_int64, Device, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, use_errno=True)
STAT = ctypes.CFUNCTYPE(ctypes.c_int, Device, ctypes.c_void_p, use_errno=True)
IOCTL = ctypes.CFUNCTYPE(ctypes.c_int, Device, ctypes.c_ulong, ctypes.c_void_p, use_errno=True)


class Operations(ctypes.Structure):
    """``struct ntfs_device_operations``."""

    _fields_ = [
        ("open", OPEN),
        ("close", CLOSE),
        ("seek", SEEK),
        ("read", READ),
        ("write", READ),
        ("pread", PREAD),
        ("pwrite", PREAD),
        ("sync", CLOSE),
        ("stat", STAT),
        ("ioctl", IOCTL),
    ]


class OperationError(Exception):
    """An operation that failed: its number, what was tried, the errno."""

    def __init__(self, index: int, what: str, number: int) -> None:
        super().__init__(f"{what}: {os.strerror(number) if number else 'failed'}")
        self.index = index
        self.number = number


class Pipe:
    """Messages to and from the parent."""

    def __init__(self) -> None:
        self.input = io.FileIO(0, closefd=False)

    def send(self, letter: bytes, *parts: bytes) -> None:
        data = b"".join(parts)
        self._write(HEAD.pack(letter, len(data)) + data)

    def ask(self, letter: bytes, question: bytes, length: int) -> bytes:
        self.send(letter, question)
        return self.expect(b"D", length)

    def ask_into(self, letter: bytes, question: bytes, pages: list[bytearray]) -> None:
        """Have the answer in ``pages``, one after the other."""
        self.send(letter, question)
        self._head(b"D", sum(map(len, pages)))
        for page in pages:
            self._fill(page)

    def expect(self, letter: bytes, length: int | None = None) -> bytes:
        answer = bytearray(self._head(letter, length))
        self._fill(answer)
        return bytes(answer)

    def _head(self, letter: bytes, length: int | None) -> int:
        head = bytearray(HEAD.size)
        self._fill(head)
        found, size = HEAD.unpack(head)
        if found != letter or (length is not None and size != length):
            raise OSError(errno.EPROTO, "not the answer that was asked for")
        return int(size)

    def _fill(self, buffer: bytearray) -> None:
        rest = memoryview(buffer)
        while rest:
            count = self.input.readinto(rest)
            if not count:
                raise OSError(errno.EPIPE, "the parent is gone")
            rest = rest[count:]

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]


class Volume:
    """The volume's bytes by pages; changed ones go to the parent when they are pushed out, the rest at the end.

    An exception can't pass through the library, so the first is kept in ``broken``, and from then on nothing is
    written any more.
    """

    def __init__(self, pipe: Pipe, size: int) -> None:
        self.pipe = pipe
        self.size = size
        self.position = 0
        self.broken: BaseException | None = None
        self._pages: collections.OrderedDict[int, bytearray] = collections.OrderedDict()
        self._changed: dict[int, int] = {}
        """Page number -> a bit for each of its blocks that were written."""
        self._next = -1
        """The page that follows the last ones that were asked for."""

    def page(self, number: int) -> bytearray:
        found = self._pages.get(number)
        if found is None:
            self._fetch(number, PAGES_AHEAD if number == self._next else 1)
            return self._pages[number]
        self._pages.move_to_end(number)
        return found

    def _fetch(self, number: int, count: int) -> None:
        """Ask for pages, up to one that is here already: it may have been written."""
        place = number * PAGE
        count = next((each for each in range(1, count) if number + each in self._pages), count)
        length = min(count * PAGE, self.size - place)
        pages = [bytearray(min(PAGE, length - start)) for start in range(0, length, PAGE)]
        self.pipe.ask_into(b"R", struct.pack("<QI", place, length), pages)
        self._next = number + count
        self._pages.update(zip(range(number, number + count), pages, strict=False))
        while len(self._pages) > CACHED_PAGES:
            oldest, old = self._pages.popitem(last=False)
            if oldest in self._changed:
                self._push(oldest, old)

    def flush(self) -> None:
        for number in sorted(self._changed):
            self._push(number, self._pages[number])

    def _push(self, number: int, data: bytearray) -> None:
        """Hand over what was written of a page, and nothing that wasn't: it would count as touched."""
        bits = self._changed.pop(number)
        block = 0
        while bits >> block:
            first = block
            while bits >> block & 1:
                block += 1
            if block > first:
                place = struct.pack("<Q", number * PAGE + first * BLOCK)
                self.pipe.send(b"W", place, bytes(data[first * BLOCK : block * BLOCK]))
            block += 1

    def read(self, buffer: int, count: int, offset: int) -> int:
        number, within = divmod(offset, PAGE)
        if count > 0 and within + count <= PAGE and offset + count <= self.size:  # nearly always
            data = self.page(number)
            ctypes.memmove(buffer, (ctypes.c_char * count).from_buffer(data, within), count)
            return count
        count = max(0, min(count, self.size - offset))
        done = 0
        while done < count:
            number, within = divmod(offset + done, PAGE)
            data = self.page(number)
            size = min(count - done, len(data) - within)
            ctypes.memmove(buffer + done, (ctypes.c_char * size).from_buffer(data, within), size)
            done += size
        return count

    def write(self, buffer: int, count: int, offset: int) -> int:
        if offset < 0 or count < 0 or offset + count > self.size:
            raise OSError(errno.ENOSPC, "a write past the end of the volume")
        done = 0
        while done < count:
            number, within = divmod(offset + done, PAGE)
            data = self.page(number)
            size = min(count - done, len(data) - within)
            data[within : within + size] = ctypes.string_at(buffer + done, size)
            blocks = range(within // BLOCK, (within + size - 1) // BLOCK + 1)
            self._changed[number] = self._changed.get(number, 0) | (1 << blocks.stop) - (1 << blocks.start)
            done += size
        return count

    def guarded(self, action: collections.abc.Callable[..., int], *args: int) -> int:
        """Run a callback's work: any exception becomes -1 and an errno, and ends all writing."""
        if self.broken is not None:
            ctypes.set_errno(errno.EIO)
            return -1
        try:
            return action(*args)
        except BaseException as error:
            self.broken = error
            ctypes.set_errno(errno.EIO)
            return -1

    def operations(self) -> Operations:
        def seek(device: int, offset: int, whence: int) -> int:
            self.position = offset + (0, self.position, self.size)[whence if whence in (0, 1, 2) else 0]
            return self.position

        def read(device: int, buffer: int, count: int) -> int:
            done = self.guarded(self.read, buffer, count, self.position)
            self.position += max(done, 0)
            return done

        def write(device: int, buffer: int, count: int) -> int:
            done = self.guarded(self.write, buffer, count, self.position)
            self.position += max(done, 0)
            return done

        def refuse(*args: object) -> int:
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

        return Operations(
            OPEN(lambda device, flags: 0),
            CLOSE(lambda device: 0),
            SEEK(seek),
            READ(read),
            READ(write),
            PREAD(lambda device, buffer, count, offset: self.guarded(self.read, buffer, count, offset)),
            PREAD(lambda device, buffer, count, offset: self.guarded(self.write, buffer, count, offset)),
            CLOSE(lambda device: 0),
            STAT(refuse),
            IOCTL(refuse),
        )


def load() -> ctypes.CDLL:
    """libntfs-3g with the types of what is called."""
    library = None
    for name in LIBRARIES:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(name, use_errno=True)
            break
    if library is None:
        raise OSError(errno.ENOENT, "libntfs-3g isn't installed")
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    types = {
        "ntfs_device_alloc": (pointer, text, ctypes.c_long, pointer, pointer),
        "ntfs_device_mount": (pointer, pointer, ctypes.c_ulong),
        "ntfs_create_lru_caches": (None, pointer),
        "ntfs_umount": (ctypes.c_int, pointer, ctypes.c_int),
        "ntfs_inode_open": (pointer, pointer, ctypes.c_uint64),
        "ntfs_inode_close": (ctypes.c_int, pointer),
        "ntfs_inode_update_times": (None, pointer, ctypes.c_int),
        "ntfs_delete": (ctypes.c_int, pointer, text, pointer, pointer, text, ctypes.c_uint8),
        "ntfs_link": (ctypes.c_int, pointer, pointer, text, ctypes.c_uint8),
        "ntfs_create": (pointer, pointer, ctypes.c_uint32, text, ctypes.c_uint8, ctypes.c_uint32),
        "ntfs_attr_open": (pointer, pointer, ctypes.c_uint32, pointer, ctypes.c_uint32),
        "ntfs_attr_close": (None, pointer),
        "ntfs_attr_pread": (ctypes.c_int64, pointer, ctypes.c_int64, ctypes.c_int64, pointer),
        "ntfs_attr_pwrite": (ctypes.c_int64, pointer, ctypes.c_int64, ctypes.c_int64, text),
        "ntfs_attr_truncate": (ctypes.c_int, pointer, ctypes.c_int64),
        "ntfs_log_clear_levels": (ctypes.c_uint32, ctypes.c_uint32),
    }
    for name, (result, *arguments) in types.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    library.ntfs_log_clear_levels(0xFFFFFFFF)  # it would write to our standard error, which nobody reads
    return library


def utf16(name: str) -> tuple[bytes, int]:
    encoded = name.encode("utf-16-le", "surrogatepass")
    return encoded + b"\0\0", len(encoded) // 2


class Session:
    """A mounted volume and the operations on it."""

    def __init__(self, library: ctypes.CDLL, pipe: Pipe, volume: Volume, *, flags: int = 0) -> None:
        self.library = library
        self.pipe = pipe
        self.volume = volume
        self._operations = volume.operations()  # kept alive: the library calls into it
        device = library.ntfs_device_alloc(b"byre", 0, ctypes.byref(self._operations), None)
        if not device:
            raise OSError(ctypes.get_errno(), "ntfs_device_alloc")
        ctypes.set_errno(0)
        self.handle = library.ntfs_device_mount(device, flags)
        if not self.handle:
            number = ctypes.get_errno()
            raise OSError(number, f"libntfs-3g doesn't take the volume: {os.strerror(number)}")
        library.ntfs_create_lru_caches(self.handle)  # without it $ObjId and $Reparse keep entries of what is deleted
        self.made: dict[int, int] = {}

    def run(self, index: int, operation: dict[str, object]) -> None:
        getattr(self, "do_" + str(operation["do"]))(index, operation)
        if self.volume.broken is not None:
            raise self.volume.broken

    def unmount(self) -> None:
        if self.library.ntfs_umount(self.handle, 0):
            raise OSError(ctypes.get_errno() or errno.EIO, "the volume can't be closed")
        if self.volume.broken is not None:
            raise self.volume.broken
        self.volume.flush()

    def do_delete(self, index: int, operation: dict[str, object]) -> None:
        inode = self.open(index, operation["inode"])
        folder = self.open(index, operation["folder"])
        name, length = utf16(str(operation["name"]))
        if self.library.ntfs_delete(self.handle, None, inode, folder, name, length):  # closes both
            raise OperationError(index, "deleting", ctypes.get_errno())

    def do_move(self, index: int, operation: dict[str, object]) -> None:
        """A second name, then the first one goes: so renames ntfs-3g itself."""
        inode = self.open(index, operation["inode"])
        folder = self.open(index, operation["folder"])
        name, length = utf16(str(operation["name"]))
        failed = self.library.ntfs_link(inode, folder, name, length)
        number = ctypes.get_errno()
        self.close(index, folder)
        self.close(index, inode)
        if failed:
            raise OperationError(index, "giving it another name", number)
        self.do_delete(index, {**operation, "folder": operation["from"], "name": operation["old"]})

    def do_folder(self, index: int, operation: dict[str, object]) -> None:
        self.close(index, self._create(index, operation, S_IFDIR))

    def do_put(self, index: int, operation: dict[str, object]) -> None:
        """Make a file, or give an existing one (``inode``) other content."""
        known = operation.get("inode")
        inode = self.open(index, known) if known is not None else self._create(index, operation, S_IFREG)
        size = int(str(operation["size"]))
        try:
            attribute = self.library.ntfs_attr_open(inode, DATA, None, 0)
            if not attribute:
                raise OperationError(index, "opening its data", ctypes.get_errno())
            try:
                self._fill(index, attribute, int(str(operation["source"])), size)
            finally:
                self.library.ntfs_attr_close(attribute)
            self.library.ntfs_inode_update_times(inode, TIMES_OF_CONTENT)
        finally:
            self.close(index, inode)

    def _fill(self, index: int, attribute: int, source: int, size: int) -> None:
        if self.library.ntfs_attr_truncate(attribute, 0):
            raise OperationError(index, "emptying it", ctypes.get_errno())
        for offset in range(0, size, MAX_PUT):
            length = min(MAX_PUT, size - offset)
            data = self.pipe.ask(b"P", struct.pack("<IQI", source, offset, length), length)
            ctypes.set_errno(0)
            if self.library.ntfs_attr_pwrite(attribute, offset, length, data) != length:
                raise OperationError(index, "writing its data", ctypes.get_errno() or errno.ENOSPC)

    def _create(self, index: int, operation: dict[str, object], kind: int) -> int:
        folder = self.open(index, operation["folder"])
        try:
            like = operation.get("like")
            security = self._security_id(folder if like is None else None, like)
            name, length = utf16(str(operation["name"]))
            ctypes.set_errno(0)
            inode: int | None = self.library.ntfs_create(folder, security, name, length, kind)
            if not inode:
                raise OperationError(index, "making it", ctypes.get_errno())
            # The first field of an ntfs_inode is its MFT number.
            self.made[index] = ctypes.cast(inode, ctypes.POINTER(ctypes.c_uint64))[0]
            return inode
        finally:
            self.close(index, folder)

    def _security_id(self, inode: int | None, like: object) -> int:
        """The security id of a sibling or, without one, the folder's; with 0 the library adds an ACL for Everyone."""
        opened = self.library.ntfs_inode_open(self.handle, int(str(like))) if inode is None else inode
        if not opened:
            return 0
        try:
            attribute = self.library.ntfs_attr_open(opened, STANDARD_INFORMATION, None, 0)
            if not attribute:
                return 0
            buffer = ctypes.create_string_buffer(4)
            count = self.library.ntfs_attr_pread(attribute, SECURITY_ID_OFFSET, 4, buffer)
            self.library.ntfs_attr_close(attribute)
            return int.from_bytes(buffer.raw, "little") if count == 4 else 0
        finally:
            if inode is None:
                self.library.ntfs_inode_close(opened)

    def open(self, index: int, reference: object) -> int:
        """An inode by MFT reference, or by ``[operation]``: what that operation made."""
        if isinstance(reference, list):
            reference = self.made[int(reference[0])]
        ctypes.set_errno(0)
        inode: int | None = self.library.ntfs_inode_open(self.handle, int(str(reference)))
        if not inode:
            raise OperationError(index, "opening its MFT record", ctypes.get_errno())
        return inode

    def close(self, index: int, inode: int) -> None:
        if self.library.ntfs_inode_close(inode):
            raise OperationError(index, "closing its MFT record", ctypes.get_errno())


def beside(name: str) -> dict[str, Any]:
    """What another file of this program defines. Its folder isn't searched for modules: it holds Byre's own."""
    return runpy.run_path(str(Path(__file__).with_name(name)))


def main() -> int:
    pipe = Pipe()
    confine = beside("ntfs_confinement.py")["confine"]
    listing = beside("ntfs_listing.py")["Listing"]
    end: dict[str, object] = {"ok": False}
    try:
        script = json.loads(pipe.expect(b"S"))
        library = load()
        utf16("")  # the codec is a module of its own, which can't be read from disk any more once we are confined
        end["confined"] = confine(bool(script["confine"]))
        volume = Volume(pipe, int(script["size"]))
        session = Session(library, pipe, volume, flags=READ_ONLY if script.get("list") else 0)
        if script.get("list"):
            listing(session).run()
        operations = script["operations"]
        for index, operation in enumerate(operations):
            session.run(index, operation)
            if index % 64 == 63:
                pipe.send(b"O", struct.pack("<I", index + 1))
        session.unmount()
        pipe.send(b"O", struct.pack("<I", len(operations)))
        end["ok"] = True
    except OperationError as error:
        end |= {"index": error.index, "reason": str(error), "errno": error.number}
    except MemoryError:
        end |= {"reason": "it ran out of the memory that it may have", "errno": errno.ENOMEM}
    except (OSError, ValueError, LookupError, TypeError) as error:
        number = getattr(error, "errno", None)
        end |= {"reason": getattr(error, "strerror", None) or str(error), "errno": number or 0}
    pipe.send(b"E", json.dumps(end).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
