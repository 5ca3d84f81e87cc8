"""What makes ``byre.audit(path)`` work although ``byre.audit`` is a package."""

from __future__ import annotations

from os import PathLike
from types import ModuleType
from typing import Any

from byre.audit.judging import Report


class CallablePackage(ModuleType):
    """A package that is called as its function ``audit``. Python lets a module's class be changed for this."""

    def __call__(self, path: str | PathLike[str], **options: Any) -> Report:
        """``byre.audit.running.audit``."""
        from byre.audit.running import audit

        return audit(path, **options)
