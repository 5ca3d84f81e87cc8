"""Makes the guest that bench/guests.py looks into: ``guest_volume.py VOLUME IMAGE FILES``.

VOLUME is a raw NTFS volume with the specimen's system and FILES more files; IMAGE a qcow2 of it with a snapshot
``before``, after which some files changed.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from builders import xp
from builders.ntfs_volumes import mkntfs, mounted

SIZES = (200, 600, 4_000, 20_000, 60_000)


def main() -> None:
    volume, image, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    source = random.Random(7)
    part, later = volume.with_suffix(".part"), volume.with_suffix(".later")
    mkntfs(part, (64 << 20) + count * 40_000)
    with mounted(part) as root:
        files = xp.clean_files()
        for name in xp.folders(files):
            (root / name.lstrip("/")).mkdir(exist_ok=True)
        for name, data in files.items():
            (root / name.lstrip("/")).write_bytes(data)
        for number in range(count):
            folder = root / "WINDOWS" / f"folder {number // 200}"
            if number % 200 == 0:
                folder.mkdir()
            (folder / f"file {number}.dll").write_bytes(source.randbytes(source.choice(SIZES)))
    byre = [sys.executable, "-m", "byre"]
    subprocess.run([*byre, "convert", "--force", part, image, "-O", "qcow2"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*byre, "snapshot", "create", image, "before"], check=True, stdout=subprocess.DEVNULL)
    shutil.copyfile(part, later)
    with mounted(later) as root:
        for name, data in xp.infected_files().items():
            target = root / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for number in range(0, count, 100):
            (root / "WINDOWS" / f"folder {number // 200}" / f"file {number}.dll").write_bytes(source.randbytes(5000))
    _apply(part, later, image)
    later.unlink()
    part.replace(volume)


def _apply(before: Path, after: Path, image: Path) -> None:
    """Write into the image what differs between two volumes."""
    import byre
    from byre.convert.compare import compare_disks

    with byre.open_disk(before) as old, byre.open_disk(after) as new, byre.open_disk(image, writable=True) as disk:
        for piece in compare_disks(old, new):
            for start in range(piece.start, piece.start + piece.length, 1 << 20):
                disk.write(start, new.read(start, min(1 << 20, piece.start + piece.length - start)))


if __name__ == "__main__":
    main()
