"""Which accelerator this host offers to a guest, and why: KVM, HVF, WHPX, or TCG (software) where there is none."""

from __future__ import annotations

import errno
import os
import platform
import sys
from dataclasses import dataclass

from byre.errors import UsageError

ACCELERATORS = ("kvm", "hvf", "whpx", "tcg")
_KVM_GET_API_VERSION = 0xAE00
_KVM_API = 12
"""The only version of KVM's interface since 2007 (the kernel's ``Documentation/virt/kvm/api.rst``)."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """``sentence`` says for people which it is and why."""

    name: str
    sentence: str


def choose(wanted: str | None = None, *, device: str = "/dev/kvm") -> Accelerator:
    """The accelerator to use: ``wanted``, or the best that can be used here."""
    if wanted is not None:
        if wanted not in ACCELERATORS:
            raise UsageError(f"there is no accelerator {wanted!r}", expected=", ".join(ACCELERATORS))
        return Accelerator(wanted, f"{wanted.upper()}, as asked for")
    if platform.machine().lower() not in ("x86_64", "amd64", "i686", "i386"):
        return Accelerator("tcg", "TCG (software): this host's processor isn't an x86")
    if sys.platform == "linux":
        return _kvm(device)
    if sys.platform == "darwin":
        return Accelerator("hvf", "HVF, macOS's own virtualisation")
    if sys.platform == "win32":
        return Accelerator("whpx", "WHPX, Windows' own virtualisation")
    return Accelerator("tcg", "TCG (software): Byre knows no accelerator of this system")


def _kvm(device: str) -> Accelerator:
    import fcntl

    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            why = f"no permission for {device}; to use KVM: sudo usermod -aG kvm $USER, and log in again"
        elif error.errno == errno.ENOENT:
            why = f"there is no {device}: no KVM, or virtualisation is off in the firmware"
        else:
            why = f"{device} can't be used: {error.strerror}"
        return Accelerator("tcg", f"TCG (software, slow): {why}")
    try:
        version = fcntl.ioctl(descriptor, _KVM_GET_API_VERSION)
    except OSError as error:
        return Accelerator("tcg", f"TCG (software, slow): {device} isn't KVM: {error.strerror}")
    finally:
        os.close(descriptor)
    if version != _KVM_API:
        return Accelerator("tcg", f"TCG (software, slow): {device} speaks version {version} of KVM's interface")
    return Accelerator("kvm", "KVM")
