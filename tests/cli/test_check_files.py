from __future__ import annotations

from pathlib import Path

import byre as package
from byre.filesystems.opening import open_volumes
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"


def damaged(folder: Path) -> Path:
    """The specimen as a raw image in which one name in the MFT isn't what the directory's index says."""
    image = folder / "damaged.raw"
    byre("convert", SPECIMEN, image)
    with package.open_disk(image) as disk:
        (volume,) = open_volumes(disk)
        files = volume.filesystem
        assert files is not None
        place = files.mft.place(files.lookup("/WINDOWS/win.ini").id & 0xFFFFFFFF)  # type: ignore[attr-defined]
        at = disk.read(place, 1024).index("win.ini".encode("utf-16-le"))
    with image.open("r+b") as file:
        file.seek(place + at)
        file.write(b"W")
    return image


def test_a_sound_volume_is_said_to_be_sound_in_every_snapshot() -> None:
    for image in (f"{SPECIMEN}", f"{SPECIMEN}@clean", f"{SPECIMEN}@infected"):
        assert byre("check", image, "--files").stdout == "partition 1: NTFS, sound\n"


def test_damage_is_told_with_its_place_and_ends_with_2(tmp_path: Path) -> None:
    image = damaged(tmp_path)
    told = byre_json("check", image, "--files", status=2)
    assert told["schema"] == "byre/check-files/1"
    (volume,) = told["volumes"]
    assert volume["verdict"] == "corrupt" and volume["dirty"] is False
    assert {problem["code"] for problem in volume["problems"]} == {"ntfs.index-lacks", "ntfs.index-extra"}
    said = byre("check", image, "--files", status=2).stdout
    assert "'Win.ini'" in said and said.endswith("partition 1: NTFS, damaged: 2 errors\n")


def test_files_goes_with_no_repair() -> None:
    assert "--repair" in byre("check", SPECIMEN, "--files", "--repair", "leaks", status=64).stderr


def test_a_disk_without_a_file_system_is_unsupported(tmp_path: Path) -> None:
    empty = tmp_path / "empty.raw"
    empty.write_bytes(bytes(1 << 20))
    byre("check", empty, "--files", status=69)
