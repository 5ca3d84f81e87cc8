"""Ways round the guards, tried as somebody would who means it: put, rm and reg with every odd spelling. None works,
and nothing is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import byre as package
from builders.ntfs_volumes import mounted, need
from byre.disks.opening import open_disk
from byre.filesystems.opening import open_partition
from programs import byre

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
CONFIG = r"C:\WINDOWS\system32\config"
NT = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
LSA = r"HKLM\SYSTEM\CurrentControlSet\Control\Lsa"
REFUSED = 69
pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The specimen with 8.3 names, hard links, a junction-like link, and names that differ in case only."""
    need("ntfs-3g")
    folder = tmp_path_factory.mktemp("odd")
    volume, image = folder / "volume.img", folder / "odd.img"
    with open_disk(SPECIMEN) as disk:
        part = open_partition(disk, 1)
        volume.write_bytes(part.read(0, part.size))
        head = disk.read(0, disk.size - part.size)[: 63 * 512]
    with mounted(volume) as root:
        config = root / "WINDOWS" / "system32" / "config"
        os.setxattr(config, "system.ntfs_dos_name", b"CONFIG~1")
        os.setxattr(root / "WINDOWS" / "system32", "system.ntfs_dos_name", b"SYSTEM~1")
        (root / "harmless.bin").hardlink_to(config / "SAM")
        (root / "users").mkdir()
        (root / "Documents and Settings" / "evil").mkdir()
        (root / "Documents and Settings" / "evil" / "NTUSER.DAT").hardlink_to(config / "SAM")
        (root / "way").symlink_to("WINDOWS")
        (config.parent / "WinLogon.EXE").write_bytes(b"another case")
    data = bytearray(head.ljust(63 * 512, b"\0")) + volume.read_bytes()
    image.write_bytes(data)
    return image


def _no(out: Path, *words: str | Path, status: int | None = REFUSED) -> str:
    done = byre(*words, "-o", out, status=None)
    assert done.returncode == status if status is not None else done.returncode >= 64, done.stderr + done.stdout
    assert not out.exists()
    return done.stderr


@pytest.mark.parametrize(
    "path",
    [
        rf"{CONFIG}\SAM",
        r"c:/windows/SYSTEM32/config/sAm",
        r"\WINDOWS\\system32\.\config\SAM",
        r"C:\WINDOWS\SYSTEM~1\config\SAM",
        r"C:\WINDOWS\SYSTEM~1\CONFIG~1\SAM",
        r"C:\WINDOWS\SYSTEM~1\CONFIG~1\SAM.LOG",
        r"C:\harmless.bin",
        r"C:\Documents and Settings\evil\NTUSER.DAT",
        r"C:\WINDOWS\SYSTEM~1\winlogon.exe",
        r"C:\WINDOWS\system32\sethc.exe",
        r"C:\WINDOWS\system32\dllcache\winlogon.exe",
        rf"{CONFIG}\SYSTEM.LOG",
        rf"{CONFIG}\SYSTEM",
        rf"{CONFIG}\SOFTWARE",
    ],
)
def test_no_spelling_puts_a_file_over_what_guards_a_logon(path: str, odd: Path, tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"mine")
    assert "Byre doesn't change" in _no(tmp_path / "out.qcow2", "put", odd, source, path, "--parents")


@pytest.mark.parametrize(
    "path",
    [
        rf"{CONFIG}\SAM:x",
        rf"{CONFIG}\SAM::$DATA",
        rf"{CONFIG}\SAM.",
        rf"{CONFIG}\SAM ",
        r"C:\way\system32\config\SAM",
        r"C:\WINDOWS\system32\x\..\config\SAM",
        r"\\?\C:\WINDOWS\system32\config\SAM",
    ],
)
def test_what_only_a_running_windows_resolves_is_no_path_here(path: str, odd: Path, tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"mine")
    _no(tmp_path / "out.qcow2", "put", odd, source, path, status=None)
    _no(tmp_path / "out.qcow2", "rm", odd, path, status=None)


def test_a_folder_is_put_only_where_no_file_in_it_is_guarded(odd: Path, tmp_path: Path) -> None:
    for name in ("SYSTEM~1", "system32"):
        tree = tmp_path / name / "config"
        tree.mkdir(parents=True)
        (tree / "Security").write_bytes(b"mine")
        said = _no(tmp_path / "out.qcow2", "put", odd, tmp_path / name, rf"C:\WINDOWS\{name}")
        assert "Byre doesn't change" in said


@pytest.mark.parametrize(
    "words",
    [
        (CONFIG, "-r"),
        (r"C:\WINDOWS", "-r"),
        (r"C:\WINDOWS\SYSTEM~1", "-r"),
        (r"C:\WINDOWS\s*", "-r"),
        (rf"{CONFIG}\S?M",),
        (rf"{CONFIG}\S*",),
        (rf"{CONFIG}\SYSTEM",),
        (r"C:\WINDOWS\SYSTEM~1\CONFIG~1\SAM",),
    ],
)
def test_no_folder_or_wildcard_takes_what_guards_a_logon(words: tuple[str, ...], odd: Path, tmp_path: Path) -> None:
    assert "Byre doesn't change" in _no(tmp_path / "out.qcow2", "rm", odd, *words)


def test_a_hive_that_keeps_licence_and_boot_key_may_be_put_back(odd: Path, tmp_path: Path) -> None:
    for name in ("SYSTEM", "SOFTWARE"):
        byre("cp", odd, rf"{CONFIG}\{name}", tmp_path)
    byre("put", odd, tmp_path / "SYSTEM", rf"{CONFIG}\SYSTEM", "-o", tmp_path / "same.qcow2")
    said = _no(tmp_path / "out.qcow2", "put", odd, tmp_path / "SOFTWARE", rf"{CONFIG}\SYSTEM")
    assert "boot key" in said


@pytest.mark.parametrize(
    "words",
    [
        ("set", r"HKLM\SAM\SAM\Domains\Account\Users\000001F4", "F", "00", "--type", "binary"),
        ("set", r"hkey_local_machine\\sam\\\SAM", "x", "y"),
        ("set", r"HKEY_LOCAL_MACHINE\SECURITY\Policy\\", "x", "y"),
        ("set", r"HKU\evil\SAM\Domains\Account", "V", "00", "--type", "binary"),
        ("set", r"HKLM\SYSTEM\WPA\Key-1", "x", "y"),
        ("set", r"HKLM\system\\wpa", "x", "y"),
        ("set", r"HKLM\SYSTEM\ControlSet001\Control\Lsa\JD", "x", "y"),
        ("set", LSA, "LimitBlankPasswordUse", "0", "--type", "dword"),
        ("set", r"HKLM\SYSTEM\Setup", "cmdLINE", "cmd.exe"),
        (
            *("set", r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager", "PendingFileRenameOperations"),
            *(r"\??\C:\x|!\??\C:\WINDOWS\system32\sethc.exe", "--type", "multi_sz"),
        ),
        ("set", r"HKLM\SYSTEM\Setup", "SetupType", "2", "--type", "dword"),
        ("set", rf"{NT}\Winlogon", "DEFAULTPASSWORD", "x"),
        ("set", rf"{NT}\Winlogon", "GinaDLL", "mine.dll"),
        ("set", rf"{NT}\Image File Execution Options\SETHC.exe", "Debugger", "cmd.exe"),
        ("set", NT, "DigitalProductId", "00", "--type", "binary"),
        ("set", rf"{NT}\WPAEvents", "OOBETimer", "00", "--type", "binary"),
        ("set", r"HKCR\..\Microsoft\Windows NT\CurrentVersion", "ProductId", "1"),
        ("delete", r"HKLM\SYSTEM\WPA"),
        ("delete", LSA),
        ("delete", rf"{LSA}\JD"),
        ("delete", r"HKLM\SYSTEM\CurrentControlSet"),
        ("delete", r"HKLM\SYSTEM\ControlSet001\Control"),
        ("delete", r"HKLM\SOFTWARE\Microsoft"),
        ("delete", NT),
        ("delete", NT, "digitalproductid"),
    ],
)
def test_no_spelling_of_a_key_reaches_passwords_or_activation(
    words: tuple[str, ...], odd: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.qcow2"
    said = _no(out, "reg", odd, *words, status=None)
    if ".." not in words[1]:
        assert "Byre doesn't change" in said


@pytest.mark.parametrize(
    "key",
    [
        r"HKEY_LOCAL_MACHINE\SAM\SAM\Domains",
        r"hklm\SECURITY",
        r"HKEY_LOCAL_MACHINE\SYSTEM\WPA\x",
        r"HKEY_LOCAL_MACHINE\SYSTEM\ControlSet001\Control\Lsa\Skew1",
        r"-HKEY_LOCAL_MACHINE\SYSTEM\WPA",
        r"-HKEY_LOCAL_MACHINE\SYSTEM\\CurrentControlSet\\Control\\",
        r"HKEY_USERS\evil\SAM",
    ],
)
def test_an_import_reaches_no_more(key: str, odd: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.reg"
    file.write_text(
        f'Windows Registry Editor Version 5.00\n\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Mine]\n\n[{key}]\n"a"="b"\n'
    )
    text = file.read_text()
    file.write_text(text.replace('"a"="b"\n', "") if key.startswith("-") else text)
    assert "Byre doesn't change" in _no(tmp_path / "out.qcow2", "reg", odd, "import", file)


def test_names_are_compared_as_windows_does(odd: Path, tmp_path: Path) -> None:
    """A long s is no s: the value that is made is another one, and does nothing."""
    out = tmp_path / "out.qcow2"
    byre("reg", odd, "set", rf"{NT}\Winlogon", "Default\u017fpa\u017f\u017fword", "x", "-o", out)
    shown = byre("reg", out, rf"{NT}\Winlogon").stdout
    assert "\u017f" in shown
