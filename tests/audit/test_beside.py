"""What lies beside an image: checksum lists, a chain's manifest, minisign's signatures by keys trusted or not."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from byre.audit import beside
from byre.audit.beside import look_beside, trusted_keys
from byre.audit.facts import Beside
from byre.audit.minisign import parse_public_key, parse_signature, verifies
from byre.disks.opening import open_disk
from byre.errors import CorruptImageError, UsageError
from oracles import run_tool
from programs import byre, byre_json

SPECIMEN = Path(__file__).parents[2] / "src" / "byre" / "samples" / "specimen.qcow2"
KEY_ID = bytes(range(8))


def look(image: Path, keys: Sequence[str] = ()) -> Beside:
    with open_disk(image) as disk:
        return look_beside(disk, trusted_keys(keys), progress=lambda stage: None)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "x.img"
    path.write_bytes(b"an image\n" * 2048)
    return path


def digest(path: Path, name: str = "sha256") -> str:
    return hashlib.new(name, path.read_bytes()).hexdigest()


def public(key: Ed25519PrivateKey) -> str:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(b"Ed" + KEY_ID + raw).decode()


def sign(path: Path, key: Ed25519PrivateKey, *, message: bytes | None = None, comment: str = "made today") -> None:
    data = message if message is not None else path.read_bytes()
    signature = key.sign(hashlib.blake2b(data).digest())
    overall = key.sign(signature + comment.encode())
    lines = [
        "untrusted comment: x",
        base64.b64encode(b"ED" + KEY_ID + signature).decode(),
        f"trusted comment: {comment}",
        base64.b64encode(overall).decode(),
    ]
    path.with_name(f"{path.name}.minisig").write_text("\n".join(lines) + "\n")


def test_an_image_alone_has_nothing_beside(image: Path) -> None:
    (image.parent / "other.sha256").write_text("0" * 64)
    assert look(image) == Beside()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SHA256SUMS", "{sha256}  x.img\n"),
        ("SHA256SUMS", "{other}  y.img\n{sha256} *x.img\n"),
        ("x.img.sha256", "{sha256}\n"),
        ("x.img.md5", "{md5}  x.img\r\n"),
        ("x.mf", "SHA256(x.img)= {sha256}\n"),
        ("sha512sums.txt", "{sha512}  x.img\n"),
    ],
)
def test_lists_that_fit_agree(image: Path, name: str, line: str) -> None:
    values = {each: digest(image, each) for each in ("md5", "sha256", "sha512")}
    (image.parent / name).write_text(line.format(other="0" * 64, **values))
    found = look(image)
    assert [row[0] for row in found.agrees] == [name]
    assert found.contradicts == ()


def test_a_list_with_another_digest_contradicts(image: Path) -> None:
    (image.parent / "SHA256SUMS").write_text(f"{'ab' * 32}  x.img\n")
    found = look(image)
    assert found.contradicts[0][0] == "SHA256SUMS"
    assert "abababab" in found.contradicts[0][1]
    assert digest(image)[:16] in found.contradicts[0][1]


def test_a_list_that_does_not_name_the_image_says_nothing(image: Path) -> None:
    (image.parent / "SHA256SUMS").write_text(f"{'ab' * 32}  y.img\nnonsense\n")
    assert look(image) == Beside()


def test_an_image_that_is_too_large_is_not_hashed_unasked(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (image.parent / "SHA256SUMS").write_text(f"{'ab' * 32}  x.img\n")
    monkeypatch.setattr(beside, "MAX_HASHED", 100)
    assert look(image).unread == (("SHA256SUMS", "is too large to hash unasked"),)


def test_a_signature_counts_by_the_key_that_the_user_gave(image: Path) -> None:
    key = Ed25519PrivateKey.generate()
    sign(image, key)
    assert look(image, [public(key)]).signed[0][0] == "x.img.minisig"
    assert "made today" in look(image, [public(key)]).signed[0][1]
    assert look(image).unknown_key == (("x.img.minisig", "by the key 0706050403020100, which isn't here"),)
    (image.parent / "minisign.pub").write_text(f"untrusted comment: x\n{public(key)}\n")
    assert "lies beside it" in look(image).unknown_key[0][1]


def test_a_signature_of_other_bytes_is_forged(image: Path) -> None:
    key = Ed25519PrivateKey.generate()
    sign(image, key, message=b"another image")
    assert [row[0] for row in look(image, [public(key)]).forged] == ["x.img.minisig"]


def test_a_comment_that_was_changed_is_forged(image: Path) -> None:
    key = Ed25519PrivateKey.generate()
    sign(image, key)
    path = image.parent / "x.img.minisig"
    path.write_text(path.read_text().replace("made today", "made never"))
    assert look(image, [public(key)]).forged


def test_a_signed_list_is_verified_as_it_is(image: Path) -> None:
    key = Ed25519PrivateKey.generate()
    sums = image.parent / "SHA256SUMS"
    sums.write_text(f"{digest(image)}  x.img\n")
    sign(sums, key)
    found = look(image, [public(key)])
    assert [row[0] for row in found.agrees] == ["SHA256SUMS"]
    assert [row[0] for row in found.signed] == ["SHA256SUMS.minisig"]


@pytest.mark.oracle
def test_what_minisign_signs_verifies(image: Path) -> None:
    folder = image.parent
    run_tool("minisign", "-G", "-W", "-p", folder / "k.pub", "-s", folder / "k.key")
    run_tool("minisign", "-S", "-s", folder / "k.key", "-m", image, "-t", "from the maker")
    found = look(image, [str(folder / "k.pub")])
    assert len(found.signed) == 1
    assert "from the maker" in found.signed[0][1]
    image.write_bytes(image.read_bytes() + b"!")
    assert look(image, [str(folder / "k.pub")]).forged


def test_a_chains_manifest_is_held_against_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    byre("convert", "-O", "vdi", "--with-snapshots", SPECIMEN, folder)
    manifest = folder / "manifest.json"
    files = [row["file"] for row in json.loads(manifest.read_text())["states"]]
    newest = folder / files[-1]
    assert look(newest).agrees == (("manifest.json", f"a chain of {len(files)} states"),)
    text = manifest.read_text().replace(f'"{files[0]}"', '"gone.vdi"')
    manifest.write_text(text)
    assert look(newest).contradicts[0][0] == "manifest.json"
    manifest.write_text('{"schema": "somebody else\'s"}')
    assert look(newest) == Beside()


@pytest.mark.parametrize("text", ["", "RWshort", "x" * 56, "RWQ" + "A" * 52 + "\nRWQ" + "A" * 52])
def test_a_key_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        parse_public_key(text)
    byre("audit", SPECIMEN, "--signed-by", str(tmp_path / "none.pub"), status=64)


@pytest.mark.parametrize("data", [b"", b"untrusted comment: x\nAAAA\ntrusted comment: y\nAAAA\n", b"\xff" * 400])
def test_a_signature_that_is_none_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptImageError):
        parse_signature(data, path="x.minisig")


def test_a_key_of_another_id_never_verifies(image: Path) -> None:
    key = Ed25519PrivateKey.generate()
    sign(image, key)
    signature = parse_signature((image.parent / "x.img.minisig").read_bytes(), path="x")
    other = parse_public_key(public(key))
    assert verifies(signature, other, hashlib.blake2b(image.read_bytes()).digest())
    changed = type(other)(b"12345678", other.key)
    assert not verifies(signature, changed, hashlib.blake2b(image.read_bytes()).digest())


def test_the_verb_tells_of_a_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "specimen.qcow2"
    path.write_bytes(SPECIMEN.read_bytes())
    (tmp_path / "SHA256SUMS").write_text(f"{'00' * 32}  specimen.qcow2\n")
    payload = byre_json("audit", f"{path}@clean", "--only", "genuine", "--no-cache", status=2)
    rows = payload["findings"]
    assert isinstance(rows, list)
    assert [row["rule"] for row in rows] == ["GEN-009"]
