"""A fixed VHD: the disk byte for byte, then the footer."""

from __future__ import annotations

from dataclasses import replace

from byre.disks.disk import CheckReport, Description
from byre.disks.raw import RawDisk
from byre.disks.vhd.footer import FOOTER_BYTES, Footer
from byre.disks.vhd.geometry import MAX_SIZE, geometry_for
from byre.errors import UsageError
from byre.storage.base import Buffer, Storage
from byre.units import SECTOR, align_up


class FixedVhdDisk(RawDisk):
    """Reads and writes as raw does, but ends where the footer says. Mutable: resizing changes the footer."""

    format = "vhd"

    def __init__(self, storage: Storage, footer: Footer, details: dict[str, object]) -> None:
        super().__init__(storage)
        self.footer = footer
        self.size = footer.size
        self._details = details

    def write(self, offset: int, data: Buffer) -> None:
        self._need_writable()
        super().write(offset, data)

    def write_zeroes(self, offset: int, length: int) -> None:
        self._need_writable()
        super().write_zeroes(offset, length)

    def discard(self, offset: int, length: int) -> None:
        self._need_writable()
        super().discard(offset, length)

    def _need_writable(self) -> None:
        if not self.writable:
            raise UsageError("was opened for reading only", path=self.storage.name)

    def describe(self) -> Description:
        return Description(
            format="vhd",
            virtual_size=self.size,
            subformat="fixed",
            files=(self.storage.name,),
            details=self._details,
        )

    def check(self) -> CheckReport:
        """Opening has checked all that there is: the footer's checksum, and that the disk fits the file."""
        return CheckReport(format="vhd", corruptions=0, leaks=0, image_end=self.storage.size)

    def resize(self, size: int) -> None:
        self._need_writable()
        size = align_up(size, SECTOR)
        check_size(self.storage.name, size)
        footer = resized(self.footer, size)
        old_size, old_end = self.size, self.storage.size
        # The new footer first: at every moment the file ends with a footer that fits it.
        self.storage.write(size, footer.encode())
        self.storage.flush()
        if size < old_size:
            self.storage.truncate(size + FOOTER_BYTES)
        else:
            stale = min(old_end, size) - old_size
            self.storage.write(old_size, bytes(stale))
        self.storage.flush()
        self.footer = footer
        self.size = size


def check_size(path: str, size: int) -> None:
    """Raises UsageError for a virtual size in bytes that no VHD can have."""
    if not 0 < size <= MAX_SIZE:
        raise UsageError(
            "a VHD can't have this size",
            path=path,
            found=f"{size} bytes",
            expected=f"1 to {MAX_SIZE} bytes (2040 GiB)",
            hint="VHDX goes to 64 TiB.",
        )


def resized(footer: Footer, size: int) -> Footer:
    """The footer for another size, which from then on is the current size whoever made the image."""
    return replace(footer, current_size=size, geometry=geometry_for(size // SECTOR), creator=b"win ")
