"""PE files of our own making and of Debian's Wine: imports, exports, version, signature, damage."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from builders.pe import PeSpec, build_pe
from byre.errors import ByreError, CorruptImageError, UnsupportedError
from byre.windows.pe import PeFile, parse_pe
from fuzzing import fuzz

SPEC = PeSpec(
    name="shell32.dll",
    imports={"KERNEL32.dll": ["CreateFileW", "ExitProcess"], "COMCTL32.dll": [17, "InitCommonControls"]},
    delay_imports={"OLE32.dll": ["CoInitialize"]},
    exports={"DllMain": None, "Heap": "NTDLL.RtlAllocateHeap", "ShellExecuteW": None},
    strings={"CompanyName": "Byre", "OriginalFilename": "SHELL32.DLL", "FileVersion": "5.1"},
)
WINE = Path("/usr/lib/x86_64-linux-gnu/wine/x86_64-windows")


@pytest.fixture(scope="module")
def image() -> bytes:
    return build_pe(SPEC)


def test_imports_by_name_by_ordinal_and_delayed(image: bytes) -> None:
    pe = parse_pe(image, path="x")
    shown = [(i.dll, i.delay, [s.name if s.name is not None else s.ordinal for s in i.symbols]) for i in pe.imports]
    assert shown == [
        ("KERNEL32.dll", False, ["CreateFileW", "ExitProcess"]),
        ("COMCTL32.dll", False, [17, "InitCommonControls"]),
        ("OLE32.dll", True, ["CoInitialize"]),
    ]
    assert pe.problems == []


def test_exports_and_forwarders(image: bytes) -> None:
    pe = parse_pe(image, path="x")
    assert pe.export_name == "shell32.dll"
    assert [(e.name, e.ordinal, e.forwarder) for e in pe.exports] == [
        ("DllMain", 1, None),
        ("Heap", 2, "NTDLL.RtlAllocateHeap"),
        ("ShellExecuteW", 3, None),
    ]


def test_version_resource(image: bytes) -> None:
    version = parse_pe(image, path="x").version
    assert version is not None
    assert version.file_version == (5, 1, 2600, 5512) and version.language == 0x409
    assert version.company == "Byre" and version.original_filename == "SHELL32.DLL"


def test_headers(image: bytes) -> None:
    headers = parse_pe(image, path="x").headers
    assert (headers.machine_name, headers.subsystem_name, headers.is_dll, headers.is_64) == (
        "x86",
        "windows",
        True,
        False,
    )
    assert headers.subsystem_version == (4, 0) and headers.os_version == (5, 1)


def test_checksum_notices_a_changed_byte(image: bytes) -> None:
    assert parse_pe(image, path="x").computed_checksum == parse_pe(image, path="x").headers.checksum
    changed = image[:-1] + bytes([image[-1] ^ 1])
    pe = parse_pe(changed, path="x")
    assert pe.computed_checksum != pe.headers.checksum


def test_a_file_cut_short_is_said_to_be_truncated(image: bytes) -> None:
    pe = parse_pe(image[:-200], path="x")
    assert pe.truncated and "cut off" in pe.problems[0].what


def test_sixteen_bit_programs_are_unsupported_not_corrupt() -> None:
    with pytest.raises(UnsupportedError):
        parse_pe(b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"NE" + bytes(100), path="winhelp.exe")
    with pytest.raises(CorruptImageError):
        parse_pe(b"ELF" + bytes(100), path="x")


def read_everything(pe: PeFile) -> None:
    _ = pe.imports, pe.exports, pe.version, pe.debug, pe.signature, pe.computed_checksum, pe.export_name


@pytest.mark.fuzz
def test_no_mutation_gets_anything_but_our_errors_out(image: bytes) -> None:
    def case(rng: random.Random) -> None:
        data = bytearray(image)
        for _ in range(rng.randint(1, 10)):
            data[rng.randrange(len(data))] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        with contextlib.suppress(ByreError):
            read_everything(parse_pe(bytes(data), path="fuzz"))

    fuzz("pe", 1500, case)


@pytest.fixture(scope="module")
def wine_files() -> list[Path]:
    if not WINE.is_dir():
        pytest.skip("Wine's DLLs (Debian: libwine) are not installed")
    return sorted(path for path in WINE.iterdir() if path.suffix in (".dll", ".sys", ".exe", ".drv"))[::9]


@pytest.mark.field
def test_wine_files_have_the_imports_exports_and_versions_that_pefile_sees(wine_files: list[Path]) -> None:
    import pefile

    for path in wine_files:
        data = path.read_bytes()
        ours, theirs = parse_pe(data, path=path.name), pefile.PE(data=data, fast_load=True)
        theirs.parse_data_directories(directories=[0, 1, 13])
        listed = [
            (entry.dll.decode(), [i.name.decode() if i.name else i.ordinal for i in entry.imports])
            for entry in (
                *getattr(theirs, "DIRECTORY_ENTRY_IMPORT", ()),
                *getattr(theirs, "DIRECTORY_ENTRY_DELAY_IMPORT", ()),
            )
        ]
        assert [(i.dll, [s.name or s.ordinal for s in i.symbols]) for i in ours.imports] == listed, path
        exported = getattr(theirs, "DIRECTORY_ENTRY_EXPORT", None)
        names = {(s.name.decode() if s.name else None, s.ordinal) for s in exported.symbols} if exported else set()
        assert {(e.name, e.ordinal) for e in ours.exports} == names, path
        assert ours.computed_checksum == theirs.generate_checksum(), path
        assert ours.problems == [], path


@pytest.mark.oracle
def test_an_authenticode_digest_is_valid_until_a_byte_changes(tmp_path: Path, image: bytes) -> None:
    signer, openssl = shutil.which("osslsigncode"), shutil.which("openssl")
    if signer is None or openssl is None:
        pytest.skip("osslsigncode or openssl (Debian: osslsigncode, openssl) is not installed")
    key, cert, source, out = (tmp_path / name for name in ("key.pem", "cert.pem", "in.dll", "out.dll"))
    source.write_bytes(image)
    subject = ["-subj", "/CN=Byre test", "-days", "2", "-nodes"]
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-keyout", key, "-out", cert, *subject],
        check=True,
        capture_output=True,
    )
    for algorithm in ("sha1", "sha256"):
        out.unlink(missing_ok=True)
        subprocess.run(
            [signer, "sign", "-h", algorithm, "-certs", cert, "-key", key, "-in", source, "-out", out],
            check=True,
            capture_output=True,
        )
        signed = out.read_bytes()
        signature = parse_pe(signed, path="x").signature
        assert signature is not None
        assert (signature.digest_algorithm, signature.digest_valid, signature.signer) == (
            algorithm,
            True,
            "Byre test",
        )
        broken = bytearray(signed)
        broken[0x410] ^= 1
        again = parse_pe(bytes(broken), path="x").signature
        assert again is not None and again.digest_valid is False
    assert parse_pe(image, path="x").signature is None
