"""What lies beside an image and speaks of it: checksum lists, a manifest, signatures of either or of the image.

Only files with fixed names in the image's own folder are looked at, and only lists that name the image. A key that
lies beside the image proves nothing: whoever changes the one changes the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from byre.audit.facts import Beside
from byre.audit.minisign import MAX_SIGNATURE, PublicKey, parse_public_key, parse_signature, verifies
from byre.convert.manifest import FILE_NAME, open_chain, read_manifest
from byre.disks.disk import Disk
from byre.errors import ByreError, CorruptImageError, UsageError
from byre.storage.small_file import read_small_file

MAX_LIST = 4 << 20
MAX_HASHED = 64 << 30
"""A larger image is not hashed unasked: at a gigabyte a second that would be longer than a minute."""
_CHUNK = 4 << 20
_LISTS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}
_LINE = re.compile(r"([0-9A-Fa-f]{32,128})(?:[ \t]+\*?(.+))?")
_OVF = re.compile(r"(SHA1|SHA256|SHA512) ?\((.+)\) ?= ?([0-9A-Fa-f]+)")


@dataclass
class _Found:
    """What was found, by kind. Mutable while looking."""

    rows: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, kind: str, file: Path, said: str) -> None:
        self.rows.setdefault(kind, []).append((file.name, said))

    def done(self) -> Beside:
        return Beside(**{kind: tuple(rows) for kind, rows in self.rows.items()})


def trusted_keys(keys: Sequence[str]) -> tuple[PublicKey, ...]:
    """The keys that the user trusts, each as minisign's line or as a file with it. Raises UsageError."""
    found = []
    for each in keys:
        text = each
        if not each.startswith("RW"):
            try:
                text = read_small_file(each, MAX_SIGNATURE).decode("utf-8", "replace")
            except ByreError as error:
                raise UsageError(
                    f"the public key: {error.what}", path=each, hint="Name minisign's .pub file."
                ) from error
        found.append(parse_public_key(text))
    return tuple(found)


def look_beside(disk: Disk, keys: Sequence[PublicKey] = (), *, progress: Callable[[str], None]) -> Beside:
    """What speaks of the image of an open disk; nothing where it isn't a file of this host."""
    image = disk.files[0].path if disk.files else None
    if image is None or not image.is_file():
        return Beside()
    found = _Found()
    digests = _Digests(image, progress)
    for file, algorithm in _lists(image):
        _check_list(found, file, algorithm, image, digests)
    manifest = image.parent / FILE_NAME
    if manifest.is_file():
        _check_manifest(found, manifest, image)
    spoken = [name for rows in found.rows.values() for name, _ in rows]
    for name in dict.fromkeys((image.name, *spoken)):
        _check_signature(found, image.parent / name, keys, digests if name == image.name else None)
    return found.done()


def _lists(image: Path) -> list[tuple[Path, str]]:
    """Checksum files that may speak of the image, with their algorithm."""
    rows = []
    for algorithm in _LISTS:
        upper = algorithm.upper()
        names = (f"{image.name}.{algorithm}", f"{upper}SUMS", f"{upper}SUMS.txt", f"{algorithm}sums.txt")
        rows += [(image.parent / name, algorithm) for name in names]
    rows.append((image.with_suffix(".mf"), "ovf"))
    return [row for row in rows if row[0].is_file()]


class _Digests:
    """Digests of one file, made when they are first asked for. Mutable: it keeps them."""

    def __init__(self, path: Path, progress: Callable[[str], None]) -> None:
        self._path = path
        self._progress = progress
        self._made: dict[str, bytes] = {}

    def of(self, algorithm: str) -> bytes:
        """Raises CorruptImageError where the file is too large or can't be read."""
        if algorithm not in self._made:
            self._progress("checksum")
            self._made[algorithm] = self._hash(algorithm)
        return self._made[algorithm]

    def _hash(self, algorithm: str) -> bytes:
        try:
            size = self._path.stat().st_size
            if size > MAX_HASHED:
                raise CorruptImageError("is too large to hash unasked", found=size, expected=MAX_HASHED)
            digest = hashlib.blake2b() if algorithm == "blake2b" else hashlib.new(algorithm, usedforsecurity=False)
            with self._path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        except OSError as error:
            raise CorruptImageError(f"can't be read: {error.strerror}", path=self._path) from error
        return digest.digest()


def _check_list(found: _Found, file: Path, algorithm: str, image: Path, digests: _Digests) -> None:
    try:
        text = read_small_file(file, MAX_LIST).decode("utf-8", "replace")
        stated = _stated(text, algorithm, image.name, alone=file.name.startswith(f"{image.name}."))
        for name, digest in stated:
            own = digests.of(name).hex()
            if own == digest:
                found.add("agrees", file, f"{name} {digest[:16]}…")
            else:
                found.add("contradicts", file, f"it says {name} {digest[:16]}…, the image has {own[:16]}…")
    except ByreError as error:
        found.add("unread", file, error.what)


def _stated(text: str, algorithm: str, name: str, *, alone: bool) -> list[tuple[str, str]]:
    """(algorithm, digest) of the image in a checksum file. ``alone``: a digest without a name is the image's."""
    found = []
    for line in text.splitlines():
        if algorithm == "ovf":
            match = _OVF.fullmatch(line.strip())
            if match and match[2] == name and len(match[3]) == _LISTS[match[1].lower()]:
                found.append((match[1].lower(), match[3].lower()))
            continue
        plain = _LINE.fullmatch(line.strip())
        if plain and len(plain[1]) == _LISTS[algorithm] and (plain[2] == name or (alone and plain[2] is None)):
            found.append((algorithm, plain[1].lower()))
    return found


def _check_manifest(found: _Found, manifest: Path, image: Path) -> None:
    try:
        content = read_manifest(manifest)
    except ByreError:
        return  # some other program's manifest: it doesn't speak of this image
    if image.name not in [entry.file for entry in content.states]:
        return
    try:
        with open_chain(manifest, force_share=True) as (_, states):
            found.add("agrees", manifest, f"a chain of {len(states)} states")
    except CorruptImageError as error:
        found.add("contradicts", manifest, error.what)
    except ByreError as error:
        found.add("unread", manifest, error.what)


def _check_signature(found: _Found, file: Path, keys: Sequence[PublicKey], digests: _Digests | None) -> None:
    """The signature of one file; of the image itself by its digests, of a list by its bytes."""
    signature_file = file.with_name(f"{file.name}.minisig")
    if not signature_file.is_file():
        return
    try:
        signature = parse_signature(read_small_file(signature_file, MAX_SIGNATURE), path=str(signature_file))
        own = next((key for key in keys if key.id == signature.key_id), None)
        candidates = [own] if own is not None else _keys_beside(file)
        matching = [key for key in candidates if key.id == signature.key_id]
        if not matching:
            name = signature.key_id[::-1].hex().upper()
            found.add("unknown_key", signature_file, f"by the key {name}, which isn't here")
            return
        if digests is not None and not signature.prehashed:
            raise CorruptImageError("signs the image's bytes, not their digest: verify it with minisign")
        data = digests.of("blake2b") if digests is not None else read_small_file(file, MAX_LIST)
        message = hashlib.blake2b(data).digest() if signature.prehashed and digests is None else data
        if not verifies(signature, matching[0], message):
            found.add("forged", signature_file, f"the key {matching[0].name} did not make it for {file.name}")
        elif own is not None:
            found.add("signed", signature_file, f"by {own.name}: {signature.comment[:200]}")
        else:
            found.add("unknown_key", signature_file, f"by {matching[0].name}, a key that lies beside it")
    except ByreError as error:
        found.add("unread", signature_file, error.what)


def _keys_beside(file: Path) -> list[PublicKey]:
    """Keys that lie in the same folder: enough to say that a signature is consistent, not to trust it."""
    found = []
    for name in ("minisign.pub", f"{file.name}.pub"):
        try:
            text = read_small_file(file.parent / name, MAX_SIGNATURE).decode("utf-8", "replace")
            found.append(parse_public_key(text))
        except ByreError:
            continue
    return found
