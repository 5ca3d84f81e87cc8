"""``byre reg import`` as a whole: what hivex reads afterwards, hives that grow, many edits, another user's hive."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import byre as package
from builders.ntfs_volumes import need
from byre.disks.opening import open_disk
from byre.filesystems.opening import open_partition
from effort import at_most
from oracles import require_tool, run_tool
from programs import byre, byre_json

pytestmark = pytest.mark.oracle
SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
HEAD = "Windows Registry Editor Version 5.00\r\n\r\n"
SOFTWARE = r"C:\WINDOWS\system32\config\SOFTWARE"


def _import(text: str, folder: Path, *words: str) -> Path:
    file, out = folder / "x.reg", folder / "out.qcow2"
    file.write_bytes((HEAD + text).encode("utf-16"))
    byre("reg", SPECIMEN, "import", file, "-o", out, *words)
    return out


def _hive(image: Path, path: str, folder: Path) -> Path:
    target = folder / "hive"
    target.mkdir(exist_ok=True)
    byre("cp", image, path, target)
    return target / path.rpartition("\\")[2]


def test_a_hive_grows_for_large_values_and_hivex_reads_every_byte(tmp_path: Path) -> None:
    need("ntfsfix")
    blob = random.Random(1).randbytes(700_000)
    rows = ",\\\r\n  ".join(blob[at : at + 25].hex(",") for at in range(0, len(blob), 25))
    out = _import(f'[HKEY_LOCAL_MACHINE\\SOFTWARE\\Acme\\Large]\r\n"blob"=hex:{rows}\r\n', tmp_path)
    hive = _hive(out, SOFTWARE, tmp_path)
    assert hive.stat().st_size > 700_000 and hive.stat().st_size % 4096 == 0
    script = (
        "import hivex, sys; h = hivex.Hivex(sys.argv[1]); n = h.root()\n"
        "for name in ('Acme', 'Large'): n = h.node_get_child(n, name)\n"
        "print(h.value_value(h.node_get_value(n, 'blob'))[1].hex())"
    )
    assert run_tool(require_tool("python3:hivex"), "-c", script, hive).strip() == blob.hex()
    volume = tmp_path / "volume.img"
    with open_disk(out) as disk:
        part = open_partition(disk, 1)
        volume.write_bytes(part.read(0, part.size))
    assert "processed successfully" in run_tool("ntfsfix", "-n", volume)


def test_thousands_of_keys_and_values_in_one_import(tmp_path: Path) -> None:
    wanted = {f"k{number % 1500:04}\\v{number}": number for number in range(6000)}
    parts = []
    for name, number in wanted.items():
        key, value = name.split("\\")
        parts.append(f'[HKEY_LOCAL_MACHINE\\SOFTWARE\\Many\\{key}]\r\n"{value}"=dword:{number:08x}\r\n')
    with at_most(seconds=40):
        out = _import("\r\n".join(parts), tmp_path)
    listed = run_tool(require_tool("hivexregedit"), "--export", _hive(out, SOFTWARE, tmp_path), r"\Many")
    assert listed.count("=dword:") == len(wanted)
    assert '"v5999"=dword:0000176f' in listed


def test_what_is_not_there_may_be_deleted_by_an_import_only(tmp_path: Path) -> None:
    text = "[-HKEY_LOCAL_MACHINE\\SOFTWARE\\Nowhere]\r\n\r\n"
    text += '[HKEY_LOCAL_MACHINE\\SOFTWARE\\New]\r\n"gone"=-\r\n"a"="b"\r\n'
    out = _import(text, tmp_path)
    assert byre_json("reg", out, r"HKLM\SOFTWARE\New")["values"][0]["data"] == "b"
    byre("reg", SPECIMEN, "delete", r"HKLM\SOFTWARE\Nowhere", "-o", tmp_path / "no.qcow2", status=66)


def test_current_user_is_the_one_that_is_named(tmp_path: Path) -> None:
    text = '[HKEY_CURRENT_USER\\Software\\Acme]\r\n@="mine"\r\n'
    out = _import(text, tmp_path, "--user", "operator")
    assert byre_json("reg", out, r"HKU\operator\Software\Acme")["values"][0]["data"] == "mine"
    assert byre_json("reg", out, r"HKCU\Software\Acme", "--user", "Operator")["values"][0]["data"] == "mine"
    said = byre("reg", SPECIMEN, "import", tmp_path / "x.reg", "-o", tmp_path / "no.qcow2", status=69).stderr
    assert "--user" in said
    said = byre("reg", SPECIMEN, "import", tmp_path / "x.reg", "--user", "nobody", "-n", status=66).stderr
    assert "operator" in said


def test_version_4_is_read_in_the_guest_s_own_code_page(tmp_path: Path) -> None:
    japanese, file, out = tmp_path / "ja.qcow2", tmp_path / "x.reg", tmp_path / "out.qcow2"
    code_page = r"HKLM\SYSTEM\CurrentControlSet\Control\Nls\CodePage"
    byre("reg", SPECIMEN, "set", code_page, "ACP", "932", "-o", japanese)
    line = '[HKEY_LOCAL_MACHINE\\SOFTWARE\\Acme]\r\n"表"="C:\\\\ソフト\\\\"\r\n'
    file.write_bytes(f"REGEDIT4\r\n\r\n{line}".encode("cp932"))
    byre("reg", japanese, "import", file, "-o", out)
    hive = _hive(out, SOFTWARE, tmp_path)
    listed = run_tool(require_tool("hivexregedit"), "--unsafe-printable-strings", "--export", hive, r"\Acme")
    assert '"表"=str(1):"C:\\ソフト\\"' in listed
    # Half of a letter, in a guest of another code page: nothing is written, and what would help is said.
    said = byre("reg", SPECIMEN, "import", file, "--code-page", "949", "-n", status=64).stderr
    assert "line 4" in said and "--code-page" in said
    byre("reg", SPECIMEN, "import", file, "--code-page", "932", "-o", tmp_path / "same.qcow2")
    assert byre_json("reg", tmp_path / "same.qcow2", r"HKLM\SOFTWARE\Acme")["values"][0]["name"] == "表"
    byre("reg", japanese, "delete", code_page, "ACP", "-o", tmp_path / "unknown.qcow2")
    said = byre("reg", tmp_path / "unknown.qcow2", "import", file, "-n", status=69).stderr
    assert "--code-page" in said
    file.write_bytes(b'REGEDIT4\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Acme]\n@="plain"\n')
    byre("reg", tmp_path / "unknown.qcow2", "import", file, "-n")
    byre("reg", SPECIMEN, "import", file, "--code-page", "7", "-n", status=69)


def test_utf_8_that_is_read_in_the_guest_s_code_page_is_told(tmp_path: Path) -> None:
    file = tmp_path / "x.reg"
    file.write_text('REGEDIT4\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Acme]\n@="é"\n', encoding="utf-8")
    assert "65001" in byre("reg", SPECIMEN, "import", file, "-n").stderr
    byre("reg", SPECIMEN, "import", file, "--code-page", "65001", "-o", tmp_path / "out.qcow2")
    assert byre_json("reg", tmp_path / "out.qcow2", r"HKLM\SOFTWARE\Acme")["values"][0]["data"] == "é"
