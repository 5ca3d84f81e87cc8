"""The audit: whether an image will boot, where, and whether it can be trusted. ``byre.audit(path)`` makes one.

The package is callable, because ``byre.audit`` is both: the function of the library and the room of its parts.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from byre.audit.calling import CallablePackage
from byre.audit.finding import Finding, Stage, Unread
from byre.audit.judging import Report, judge
from byre.audit.rule import Rule
from byre.audit.running import audit, audit_disk

__all__ = ["Finding", "Report", "Rule", "Stage", "Unread", "audit", "audit_disk", "judge"]

if not TYPE_CHECKING:
    sys.modules[__name__].__class__ = CallablePackage
