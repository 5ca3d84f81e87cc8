"""The verbs that look inside, tried as a user does: on the specimen, on FAT and ISO volumes, over HTTP."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import byre as package
from builders import xp
from builders.fat_volumes import make_fat
from builders.guests import large_guest
from builders.ntfs_volumes import need
from builders.range_server import serve
from byre.cli.pe import signature_text
from byre.windows.pe.signature import Signature
from oracles import run_tool
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
CLEAN = f"{SPECIMEN}@clean"
INFECTED = f"{SPECIMEN}@infected"


def lines_of_json(*arguments: str | os.PathLike[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in byre(*arguments, "--json").stdout.splitlines()]


def test_inspect_tells_the_specimen() -> None:
    found = byre_json("inspect", CLEAN)
    (guest,) = found["guests"]
    assert found["drives"] == {"C": 1}
    assert guest["root"] == "/WINDOWS"
    assert guest["product"]["value"] == "Microsoft Windows XP"
    assert guest["service_pack"]["value"] == "Service Pack 3"
    assert (guest["version"]["value"], guest["build"]["value"]) == ("5.1", "2600")
    assert guest["computer_name"]["value"] == "LAB-PC-7"
    assert guest["control_sets"]["value"]["default"] == 1
    assert [user["name"] for user in guest["users"]["value"]] == ["Administrator", "Guest", "operator"]
    assert "intelide" in [row["service"] for row in guest["boot_controllers"]["value"]]
    assert guest["secrets"]["product_key"] is True
    assert found["traffic"] is None


def test_inspect_of_the_infected_state_shows_what_came() -> None:
    (guest,) = byre_json("inspect", INFECTED)["guests"]
    assert "support$" in [user["name"] for user in guest["users"]["value"]]
    commands = {row["command"] for row in guest["autostarts"]["value"]}
    assert r"C:\WINDOWS\system32\svch0st.exe /s" in commands
    text = byre("inspect", INFECTED).stdout
    assert "svch0st.exe" in text
    assert "netmgr32" in {service["name"] for service in guest["services"]["value"]}


def test_inspect_prints_no_secret() -> None:
    """A product key's bytes are in the hive; its name may be told, its bytes in no spelling."""
    for arguments in (("inspect", CLEAN, "--all"), ("inspect", CLEAN, "--json")):
        said = byre(*arguments).stdout
        assert bytes(164).hex() not in said.replace(",", "").replace(" ", "")
        assert "00000-000-0000000-00000" not in said


def test_ls_takes_windows_and_plain_paths_in_any_case() -> None:
    first = byre_json("ls", CLEAN, r"C:\WINDOWS\System32\Drivers")
    second = byre_json("ls", CLEAN, "/windows/SYSTEM32/drivers")
    assert first["entries"] == second["entries"]
    assert {"atapi.sys", "ntfs.sys"} <= {row["name"] for row in first["entries"]}
    assert byre_json("ls", CLEAN, "/WINDOWS/system32/kern*.dll")["entries"][0]["name"] == "kernel32.dll"
    assert byre("ls", CLEAN, "/boot.ini", "--names").stdout == "boot.ini\n"


def test_ls_of_what_is_not_there_names_the_part_that_is_missing() -> None:
    error = byre_json("ls", CLEAN, r"C:\WINDOWS\nothing\here", status=66)
    assert error["error"] == "missing"
    assert "nothing" in error["found"]


def test_a_drive_that_is_not_there_is_named_with_those_that_are() -> None:
    error = byre_json("ls", CLEAN, r"E:\x", status=66)
    assert error["found"] == "drives: C:"


def test_tree_counts_and_stops_at_the_depth() -> None:
    text = byre("tree", CLEAN, "/", "--depth", "1").stdout
    assert "WINDOWS/" in text
    assert "system32" not in text
    rows = lines_of_json("tree", CLEAN, "/WINDOWS")
    assert rows[0]["schema"] == "byre/tree/1"
    assert "/WINDOWS/system32/drivers/ntfs.sys" in {row.get("path") for row in rows}


def test_find_by_name_size_and_time() -> None:
    found = byre("find", CLEAN, "*.sys", "--in", r"C:\WINDOWS\system32\drivers").stdout.splitlines()
    assert "/WINDOWS/system32/drivers/atapi.sys" in found
    assert not any(path.startswith("/pagefile") for path in found)
    assert byre("find", CLEAN, "--larger", "500K", "--type", "f").stdout == "/pagefile.sys\n"
    assert byre("find", CLEAN, "no such name", status=1).stdout == ""
    assert byre("find", CLEAN, "*.ini", "--newer", "2020-01-01", status=1).stdout == ""


def test_stat_tells_where_the_bytes_lie(tmp_path: Path) -> None:
    fact = byre_json("stat", CLEAN, "/pagefile.sys")
    extents = fact["extents"]
    assert fact["size"] == sum(row["length"] for row in extents) == 1 << 20
    hal = byre_json("stat", CLEAN, "/WINDOWS/system32/hal.dll")
    (row,) = hal["extents"]
    target = tmp_path / "piece"
    byre("read", CLEAN, str(row["disk_offset"]), str(row["length"]), "-o", target)
    assert target.read_bytes() == xp.clean_files()["/WINDOWS/system32/hal.dll"][: row["length"]]
    assert hal["modified"] == "2008-04-16T11:50:00Z"


def test_cat_writes_the_bytes() -> None:
    assert byre("cat", CLEAN, r"C:\boot.ini").stdout.encode() == xp.clean_files()["/boot.ini"].replace(b"\r\n", b"\n")
    assert byre_json("cat", CLEAN, r"C:\WINDOWS", status=64)["error"] == "usage"


def test_hash_of_everything_is_what_was_written() -> None:
    wanted = {path: hashlib.sha256(data).hexdigest() for path, data in xp.clean_files().items()}
    rows = lines_of_json("hash", CLEAN, "/")[1:]
    assert {row["path"]: row["digest"] for row in rows} == wanted
    one = byre("hash", CLEAN, "/boot.ini", "--algorithm", "md5").stdout
    assert one == f"{hashlib.md5(xp.clean_files()['/boot.ini']).hexdigest()}  /boot.ini\n"


def test_cp_brings_a_tree_out_with_its_times(tmp_path: Path) -> None:
    report = byre_json("cp", CLEAN, r"C:\Documents and Settings", tmp_path / "out")
    assert report["failed"] == report["renamed"] == []
    note = tmp_path / "out" / "Documents and Settings" / "operator" / "Desktop" / "readme.txt"
    assert note.read_bytes() == xp.clean_files()["/Documents and Settings/operator/Desktop/readme.txt"]
    assert int(note.stat().st_mtime) == 1_208_346_600
    assert not note.stat().st_mode & 0o111
    assert byre("cp", CLEAN, r"C:\Documents and Settings\operator\Desktop\readme.txt", note.parent, status=73).stderr
    byre("cp", CLEAN, r"C:\Documents and Settings\operator\Desktop\readme.txt", note.parent, "--force")


def test_reg_follows_the_control_set_of_the_next_boot() -> None:
    found = byre_json("reg", CLEAN, r"HKLM\SYSTEM\CurrentControlSet\Services\atapi")
    assert found["hive_key"] == r"ControlSet001\Services\atapi"
    values = {row["name"]: row["data"] for row in found["values"]}
    assert values["Start"] == 0
    assert values["Group"] == "SCSI miniport"
    assert byre_json("reg", CLEAN, r"hklm\system\ControlSet002\services\ATAPI")["values"] == found["values"]


def test_reg_lists_hives_users_and_classes() -> None:
    hives = {row["key"]: row["state"] for row in byre_json("reg", CLEAN)["hives"]}
    assert hives[r"HKEY_LOCAL_MACHINE\SYSTEM"] == "known"
    assert hives[r"HKEY_USERS\operator"] == "known"
    run = r"Software\Microsoft\Windows\CurrentVersion\Run"
    by_name = byre_json("reg", CLEAN, rf"HKU\operator\{run}")
    by_sid = byre_json("reg", CLEAN, rf"HKU\S-1-5-21-1004-1003\{run}")
    assert by_name["values"] == by_sid["values"]
    assert byre_json("reg", CLEAN, r"HKCR\exefile\shell\open\command")["values"][0]["data"] == '"%1" %*'


@pytest.mark.parametrize(
    ("key", "status", "said"),
    [
        (r"HKCU\Software", 69, "Name the user"),
        (r"HKLM\HARDWARE\x", 69, "only while Windows runs"),
        (r"HKLM\SYSTEM\none", 66, "has no key 'none'"),
        (r"HKU\nobody\Software", 66, "HKEY_USERS\\nobody"),
        (r"C:\WINDOWS", 64, "HKLM, HKU or HKCR"),
    ],
)
def test_reg_refuses_with_a_next_step(key: str, status: int, said: str) -> None:
    assert said in byre("reg", CLEAN, key, status=status).stderr


def test_reg_never_shows_a_secret(tmp_path: Path) -> None:
    key = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
    row = next(row for row in byre_json("reg", CLEAN, key)["values"] if row["name"] == "DigitalProductId")
    assert row["hidden"] is True
    assert row["data"] is None
    assert row["size"] is None
    assert "DigitalProductId        REG_BINARY  (hidden)" in byre("reg", CLEAN, key).stdout
    export = byre("reg", CLEAN, key, "--format", "reg").stdout
    assert '; "DigitalProductId" is hidden: a secret' in export
    assert '"DigitalProductId"=' not in export
    for line in lines_of_json("reg", CLEAN, r"HKLM\SAM\SAM\Domains\Account\Users", "--recursive")[1:]:
        assert all(value["data"] is None for value in line["values"] if value["name"] in ("F", "V"))


def test_reg_hides_secrets_of_a_hive_that_lies_alone(tmp_path: Path) -> None:
    byre("cp", CLEAN, r"C:\WINDOWS\system32\config\S*", tmp_path)
    (tmp_path / "SAM").rename(tmp_path / "harmless")
    found = byre_json("reg", tmp_path / "harmless", r"SAM\Domains\Account\Users\000001F4")
    assert found["key"] == r"HKEY_LOCAL_MACHINE\SAM\SAM\Domains\Account\Users\000001F4"
    assert [value["data"] for value in found["values"]] == [None, None]
    system = byre_json("reg", tmp_path / "SYSTEM", r"CurrentControlSet\Services\atapi")
    assert system["hive_key"] == r"ControlSet001\Services\atapi"


def test_reg_exports_a_file_as_regedit_does(tmp_path: Path) -> None:
    target = tmp_path / "session.reg"
    byre("reg", CLEAN, r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager", "--format", "reg", "-o", target)
    raw = target.read_bytes()
    assert raw[:2] == b"\xff\xfe"
    text = raw[2:].decode("utf-16-le")
    assert text.startswith("Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\SYSTEM\\Current")
    assert '"advapi32"="advapi32.dll"\r\n' in text
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("\n") == text.count("\r\n")
    assert byre("reg", CLEAN, r"HKLM\SYSTEM\Select", "--format", "reg", "-o", target, status=73).stdout == ""


def test_pe_tells_headers_imports_and_version(tmp_path: Path) -> None:
    found = byre_json("pe", CLEAN, r"C:\WINDOWS\system32\kernel32.dll")
    assert found["machine"] == "x86"
    assert found["checksum"]["valid"] is True
    assert found["signature"] is None
    assert found["version"]["file"] == "5.1.2600.5512"
    assert {"name": "HeapAlloc", "forwarder": "NTDLL.RtlAllocateHeap"}.items() <= next(
        row for row in found["exports"] if row["name"] == "HeapAlloc"
    ).items()
    byre("cp", CLEAN, r"C:\WINDOWS\system32\kernel32.dll", tmp_path)
    alone = byre_json("pe", tmp_path / "kernel32.dll")
    assert alone["imports"] == found["imports"]


def test_pe_tells_people_the_same(tmp_path: Path) -> None:
    byre("cp", CLEAN, r"C:\WINDOWS\system32\kernel32.dll", tmp_path)
    told = [" ".join(line.split()) for line in byre("pe", tmp_path / "kernel32.dll").stdout.splitlines()]
    assert {
        "kind DLL for x86, console 4.0",
        "linked 2008-04-14T00:09:45Z",
        "checksum right",
        "signature none in the file (it may be in a catalog)",
        "version 5.1.2600.5512",
        "ntdll.dll NtCreateFile, RtlAllocateHeap, LdrLoadDll",
        "exports as kernel32.dll: 5",
        "4 HeapAlloc -> NTDLL.RtlAllocateHeap",
    } <= set(told)
    damaged = bytearray((tmp_path / "kernel32.dll").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "kernel32.dll").write_bytes(damaged)
    assert "checksum wrong" in " ".join(byre("pe", tmp_path / "kernel32.dll").stdout.split())


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (None, "none in the file (it may be in a catalog)"),
        (
            Signature(None, None, reason="its table lies outside the file"),
            "there, but its table lies outside the file",
        ),
        (Signature("sha1", True, "Acme"), "sha1 digest matches the file; signer Acme"),
        (Signature("sha1", True), "sha1 digest matches the file; signer unknown"),
        (
            Signature("sha256", False, "Acme"),
            "sha256 digest DOESN'T match the file: it was changed; signer Acme",
        ),
    ],
)
def test_pe_says_what_a_signature_is_worth(signature: Signature | None, told: str) -> None:
    assert signature_text(signature) == told


def test_pe_closure_finds_everything_in_the_clean_system() -> None:
    for path in (r"C:\WINDOWS\system32\winlogon.exe", r"C:\WINDOWS\system32\drivers\tcpip.sys"):
        closure = byre_json("pe", CLEAN, path, "--closure")["closure"]
        assert closure["missing"] == closure["unreadable"] == []
        assert closure["complete"]
    needs = {row["dll"]: row["how"] for row in closure["modules"][0]["needs"]}
    assert needs["NDIS.SYS"] == "/WINDOWS/system32/drivers"


def test_du_sums_folders_waste_and_what_lies_outside() -> None:
    found = byre_json("du", CLEAN, "--top", "0")
    folders = {row["path"]: row for row in found["folders"]}
    assert folders["/WINDOWS"]["files"] == sum(path.startswith("/WINDOWS/") for path in xp.clean_files())
    waste = {row["kind"]: row for row in found["waste"]}
    assert waste["pagefile"]["allocated"] == 1 << 20
    assert waste["temporary"]["largest"] == "/WINDOWS/Temp/setup.log"
    volume = found["volume"]
    assert 0 < volume["free_but_stored"] < volume["free"] < volume["size"]
    assert byre_json("du", CLEAN, r"C:\WINDOWS")["volume"] is None


@pytest.mark.parametrize("options", [(), ("--partition", "0")])
def test_the_verbs_work_on_a_fat_volume(tmp_path: Path, options: tuple[str, ...]) -> None:
    for name in ("mkfs.fat", "mcopy"):
        need(name)
    content = make_fat(tmp_path / "fat.img", 16, 20 << 20, tmp_path)
    image = tmp_path / "fat.img"
    rows = lines_of_json("hash", image, "/", *options)[1:]
    assert {row["path"]: row["digest"] for row in rows} == {
        path: hashlib.sha256(data).hexdigest() for path, data in content.items()
    }
    if options:
        return
    assert {row["name"] for row in byre_json("ls", image, r"C:\sub directory")["entries"]} == {
        "inner file.bin",
        "second.bin",
    }
    assert byre("cat", image, "/readme.txt").stdout == "plain short name\n"
    assert byre_json("du", image)["total"]["files"] == len(content)
    byre("cp", image, "/", tmp_path / "out")
    assert (tmp_path / "out" / "fragmented.bin").read_bytes() == content["/fragmented.bin"]
    assert byre_json("inspect", image)["guests"] == []
    assert "no installed Windows" in byre("reg", image, r"HKLM\SYSTEM", status=69).stderr


def test_the_verbs_work_on_an_installation_disc(tmp_path: Path) -> None:
    source = tmp_path / "disc"
    (source / "I386").mkdir(parents=True)
    (source / "I386" / "A Long File Name.inf").write_bytes(b"x" * 5000)
    run_tool("genisoimage", "-quiet", "-J", "-V", "BYRE", "-o", tmp_path / "disc.iso", source)
    image = tmp_path / "disc.iso"
    assert byre_json("ls", image, "/i386")["entries"][0]["name"] == "A Long File Name.inf"
    assert byre("cat", image, "/I386/a long file name.inf").stdout == "x" * 5000
    assert byre_json("du", image)["total"]["size"] == 5000
    assert byre_json("inspect", image)["volumes"][0]["detected"] == "ISO 9660"


@pytest.fixture(scope="module")
def guest_of_2_gb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("mkntfs", "ntfs-3g")
    image = tmp_path_factory.mktemp("large") / "guest.img"
    return large_guest(image, 2 << 30, fillers=1500, filler_bytes=20_000)


@pytest.mark.oracle
def test_inspecting_a_guest_of_2_gb_behind_http_moves_a_few_per_cent_of_it(guest_of_2_gb: Path) -> None:
    with (
        guest_of_2_gb.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        serve(data) as url,  # type: ignore[arg-type]
    ):
        found = byre_json("inspect", url)
        assert found["guests"][0]["computer_name"]["value"] == "LAB-PC-7"
        moved = found["traffic"]
        assert moved["size"] == 2 << 30
        assert moved["bytes"] < 0.01 * moved["size"]
        assert moved["requests"] < 100
        assert "requests" in byre("inspect", url).stdout
        one = byre("cat", url, r"C:\boot.ini").stdout
        assert "[boot loader]" in one


def test_the_specimen_reads_the_same_over_http() -> None:
    with serve(SPECIMEN.read_bytes()) as url:
        here = byre_json("ls", CLEAN, r"C:\WINDOWS\system32")["entries"]
        there = byre_json("ls", url, "--snapshot", "clean", r"C:\WINDOWS\system32")["entries"]
        assert here == there


def test_names_with_control_characters_are_escaped_on_the_terminal(tmp_path: Path) -> None:
    need("mkfs.fat", "mcopy")
    image = tmp_path / "fat.img"
    make_fat(image, 16, 20 << 20, tmp_path)
    data = bytearray(image.read_bytes())
    at = data.index("inner".encode("utf-16-le"))
    data[at : at + 2] = "\x1b".encode("utf-16-le")
    image.write_bytes(data)
    shown = byre("ls", image, "/Sub Directory").stdout
    assert "\x1b" not in shown


def test_a_copy_of_the_specimen_is_never_changed(tmp_path: Path) -> None:
    image = tmp_path / "copy.qcow2"
    shutil.copyfile(SPECIMEN, image)
    image.chmod(0o444)
    for verb in (("inspect",), ("tree",), ("du",), ("reg",), ("hash", "/WINDOWS/inf")):
        byre(verb[0], image, *verb[1:])
    assert image.read_bytes() == SPECIMEN.read_bytes()
