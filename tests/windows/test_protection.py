"""Root certificates, network providers and pending renames, as hives hold them."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from builders.hive import Node, build_hive, expand_sz
from builders.memory_files import MemoryFiles
from byre.windows.autostarts import read_autostarts
from byre.windows.certificates import read_root_certificates
from byre.windows.hives import Hives
from byre.windows.paths import SystemPaths
from byre.windows.protection import read_protection
from byre.windows.registry import Hive, open_hive

PATHS = SystemPaths("/WINDOWS")


def hive(root: Node) -> Hive:
    return open_hive(build_hive(root), path="x")


def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Lab Root")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def test_a_root_certificate_is_told_with_its_name() -> None:
    der = certificate()
    blob = struct.pack("<III", 3, 1, 4) + b"hash" + struct.pack("<III", 32, 1, len(der)) + der
    root = Node()
    root.at(rf"Microsoft\SystemCertificates\Root\Certificates\{'AB' * 20}").values = {"Blob": blob}
    root.at(rf"Microsoft\SystemCertificates\Root\Certificates\{'CD' * 20}").values = {"Blob": blob[:90]}
    root.at(r"Microsoft\SystemCertificates\Root\Certificates\other").values = {}
    found = {each.thumbprint[:2]: each.subject for each in read_root_certificates(hive(root).root, "", "x")}
    assert found == {"ab": "Lab Root", "cd": None}


def test_pending_renames_are_pairs_with_empty_targets() -> None:
    root = Node()
    text = "\\??\\C:\\a\0\0\\??\\C:\\b\0!\\??\\C:\\c\0\0"
    root.at(r"Control\Session Manager").values = {"PendingFileRenameOperations": (7, text.encode("utf-16-le"))}
    told = read_protection(MemoryFiles({}), Hives({}), hive(root).root, PATHS)
    assert told.pending_renames[:2] == ((r"\??\C:\a", ""), (r"\??\C:\b", r"!\??\C:\c"))


def test_winsock_and_network_providers_are_autostarts() -> None:
    root = Node()
    entry = r"Services\WinSock2\Parameters\Protocol_Catalog9\Catalog_Entries\000000000001"
    root.at(entry).values = {"PackedCatalogItem": b"%SystemRoot%\\lsp.dll\0".ljust(888, b"\xfe")}
    root.at(r"Control\NetworkProvider\Order").values = {"ProviderOrder": "Lab,,Gone"}
    root.at(r"Services\Lab\NetworkProvider").values = {"ProviderPath": expand_sz(r"%SystemRoot%\np.dll")}
    rows = read_autostarts(MemoryFiles({"/WINDOWS/lsp.dll": b"x"}), Hives({}), hive(root).root, PATHS)
    assert [
        (each.kind, each.files, each.missing) for each in rows if each.kind in ("winsock", "network-provider")
    ] == [
        ("winsock", ("/WINDOWS/lsp.dll",), ()),
        ("network-provider", (), ("/WINDOWS/np.dll",)),
    ]
