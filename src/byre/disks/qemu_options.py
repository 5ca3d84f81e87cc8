"""Options of new images as qemu-img spells them, told in Byre's words. Pure."""

from __future__ import annotations

from byre.disks.create_options import switch
from byre.errors import UnsupportedError, UsageError

_NAMES = {"compression_type": "compression", "backing_fmt": "backing_format", "hwversion": "hw_version"}
_VERSIONS = {"0.10": "2", "v2": "2", "1.1": "3", "v3": "3"}
_SWITCHES = {
    "static": ("subformat", "fixed", "dynamic"),
    "compat6": ("hw_version", "6", "4"),
    "force_size": ("size_rule", "exact", "geometry"),
}
"""Of VDI, VMDK and VHD: what is said when they are on, and when they are off."""


def translated(key: str, value: str) -> tuple[str, str] | None:
    """``(name, value)`` of one ``-o key=value``; None where it asks for what is so anyway.

    Raises UnsupportedError for encryption, which nothing here writes.
    """
    name = key.replace("-", "_")
    if name == "encryption" and switch(value) is False:
        return None
    if name == "encryption" or name.startswith("encrypt."):
        raise UnsupportedError("encrypted images are not written", found=f"{key}={value}")
    if name == "compat":
        if value not in _VERSIONS:
            raise UsageError("compat is a version of qcow2", found=value, expected=" or ".join(_VERSIONS))
        return "version", _VERSIONS[value]
    if name in _SWITCHES:
        wanted = switch(value)
        if wanted is None:
            raise UsageError(f"{key} is on or off", found=value)
        said, on, off = _SWITCHES[name]
        return said, on if wanted else off
    return _NAMES.get(name, name), value
