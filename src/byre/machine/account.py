"""The account that QEMU runs as: a root process hands it to one that may do less."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from byre.machine.qemu.process import User


def lesser_account(*, device: str = "/dev/kvm") -> User | None:
    """Whom root starts QEMU as: whoever called sudo, else ``nobody``, with the group of KVM; None where we aren't
    root, or where there is no such account."""
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        number = int(os.environ.get("SUDO_UID", "0"))
        entry = pwd.getpwuid(number) if number else pwd.getpwnam("nobody")
    except (KeyError, ValueError):
        return None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, _device_groups(device))


def _device_groups(device: str) -> tuple[int, ...]:
    try:
        status = Path(device).stat()
    except OSError:
        return ()
    return (status.st_gid,) if status.st_mode & stat.S_IWGRP and status.st_gid else ()


def may(user: User, path: Path, *, write: bool = False) -> bool:
    """Whether the account may open this file, as far as owner, group and mode say."""
    wanted = stat.S_IROTH | (stat.S_IWOTH if write else 0)
    try:
        real = path.resolve()
        return _allows(user, real, wanted) and all(_allows(user, folder, stat.S_IXOTH) for folder in real.parents)
    except OSError:
        return False


def may_all(user: User, paths: Iterable[Path]) -> bool:
    """Whether it may read them all."""
    return all(may(user, path) for path in paths)


def _allows(user: User, path: Path, wanted: int) -> bool:
    status = path.stat()
    if status.st_uid == user.uid:
        wanted <<= 6
    elif status.st_gid == user.gid or status.st_gid in user.groups:
        wanted <<= 3
    return status.st_mode & wanted == wanted
