"""The options of a new qcow2 image: from what the user typed to checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from byre.disks.qcow2.header import MAX_BACKING_NAME, MAX_L1_BYTES
from byre.errors import UsageError
from byre.units import ceil_div, is_power_of_two, parse_size

PREALLOCATIONS = ("off", "metadata", "falloc", "full")
COMPRESSIONS = ("zlib", "zstd")


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What a new image is to be. ``cluster_size`` in bytes."""

    cluster_size: int = 1 << 16
    version: int = 3
    refcount_bits: int = 16
    extended_l2: bool = False
    compression: str = "zlib"
    compress: bool = False
    level: int | None = None
    preallocation: str = "off"
    lazy_refcounts: bool = False
    backing_file: str | None = None
    backing_format: str | None = None
    data_file: str | None = None
    data_file_raw: bool = False

    @property
    def cluster_bits(self) -> int:
        return self.cluster_size.bit_length() - 1

    @property
    def refcount_order(self) -> int:
        return self.refcount_bits.bit_length() - 1


def parse_options(options: Mapping[str, object], size: int) -> CreateOptions:
    """Checked options from a mapping whose values are Python values or the words of ``-o key=value``.

    Raises UsageError for unknown names, impossible values and pairs that exclude each other.
    """
    known = CreateOptions.__slots__
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(f"qcow2 has no option {unknown[0]!r}", expected=f"one of {', '.join(known)}")
    given = {name: value for name, value in options.items() if value is not None}
    raw = _as_bool("data_file_raw", given.get("data_file_raw", False))
    parsed = CreateOptions(
        cluster_size=_as_size("cluster_size", given.get("cluster_size", 1 << 16)),
        version=_version(given.get("version", 3)),
        refcount_bits=_as_int("refcount_bits", given.get("refcount_bits", 16)),
        extended_l2=_as_bool("extended_l2", given.get("extended_l2", False)),
        compression=_one_of("compression", given.get("compression", "zlib"), COMPRESSIONS),
        compress=_as_bool("compress", given.get("compress", False)),
        level=None if "level" not in given else _as_int("level", given["level"]),
        # A raw data file may be changed behind the image's back, so every cluster has to be mapped to it.
        preallocation=_one_of(
            "preallocation", given.get("preallocation", "metadata" if raw else "off"), PREALLOCATIONS
        ),
        lazy_refcounts=_as_bool("lazy_refcounts", given.get("lazy_refcounts", False)),
        backing_file=_as_text(given.get("backing_file")),
        backing_format=_as_text(given.get("backing_format")),
        data_file=_as_text(given.get("data_file")),
        data_file_raw=raw,
    )
    _check(parsed, size)
    return parsed


def _check(options: CreateOptions, size: int) -> None:
    bits = options.cluster_bits
    if not is_power_of_two(options.cluster_size) or not 9 <= bits <= 21:
        raise UsageError(
            "cluster_size must be a power of two", found=options.cluster_size, expected="512 bytes to 2 MiB"
        )
    if not is_power_of_two(options.refcount_bits) or options.refcount_bits > 64:
        raise UsageError("refcount_bits must be a power of two", found=options.refcount_bits, expected="1 to 64")
    if options.version == 2:
        for name, present in (
            ("extended_l2", options.extended_l2),
            ("lazy_refcounts", options.lazy_refcounts),
            ("data_file", options.data_file is not None),
            ("refcount_bits", options.refcount_bits != 16),
            ("compression=zstd", options.compression == "zstd"),
        ):
            if present:
                raise UsageError(f"{name} needs version 3 of qcow2", hint="Leave version=2 away.")
    if options.extended_l2 and bits < 14:
        raise UsageError("extended_l2 needs clusters of 16 KiB or more", found=options.cluster_size)
    for one, other in (
        ("backing_file", "preallocation"),
        ("data_file", "compress"),
        ("data_file_raw", "backing_file"),
    ):
        if _is_set(options, one) and _is_set(options, other):
            raise UsageError(f"{one} and {other} exclude each other")
    if options.data_file_raw and options.data_file is None:
        raise UsageError("data_file_raw needs a data_file")
    if options.data_file_raw and options.preallocation == "off":
        raise UsageError("data_file_raw needs preallocation=metadata or more")
    if options.backing_format is not None and options.backing_file is None:
        raise UsageError("backing_format needs a backing_file")
    if options.backing_file is not None:
        if options.backing_format is None:
            raise UsageError(
                "the format of the backing image is missing", hint="An image must not leave it to be guessed."
            )
        if len(options.backing_file.encode("utf-8", "surrogateescape")) > MAX_BACKING_NAME:
            raise UsageError(
                "the name of the backing image is too long", expected=f"at most {MAX_BACKING_NAME} bytes"
            )
    _check_size(options, size)


def _check_size(options: CreateOptions, size: int) -> None:
    if size < 0 or size % 512:
        raise UsageError("the size is not a multiple of 512 bytes", found=size)
    entry = 16 if options.extended_l2 else 8
    largest = MAX_L1_BYTES // 8 * (options.cluster_size // entry) * options.cluster_size
    if ceil_div(size, 1) > largest:
        raise UsageError(
            "too large for clusters of this size",
            found=f"{size} bytes",
            expected=f"at most {largest} bytes with clusters of {options.cluster_size}",
            hint="Choose a larger cluster_size.",
        )
    if options.level is not None and not 0 <= options.level <= (22 if options.compression == "zstd" else 9):
        raise UsageError("there is no such compression level", found=options.level, expected="0-9, for zstd 1-22")


def _is_set(options: CreateOptions, name: str) -> bool:
    return getattr(options, name) not in (None, False, "off")


def _as_text(value: object) -> str | None:
    return None if value is None else str(value)


def _as_bool(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}
    if str(value).lower() not in words:
        raise UsageError(f"{name} is on or off", found=value)
    return words[str(value).lower()]


def _as_int(name: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise UsageError(f"{name} is a number", found=value) from None


def _as_size(name: str, value: object) -> int:
    return value if isinstance(value, int) else parse_size(str(value))


def _one_of(name: str, value: object, words: tuple[str, ...]) -> str:
    if value not in words:
        raise UsageError(f"{name} is unknown", found=value, expected=", ".join(words))
    return str(value)


def _version(value: object) -> int:
    names = {"2": 2, "3": 3, "0.10": 2, "1.1": 3, "v2": 2, "v3": 3}
    if str(value) not in names:
        raise UsageError("version is 2 or 3", found=value)
    return names[str(value)]
