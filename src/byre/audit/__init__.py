"""The audit: whether an image will boot, where, and whether it can be trusted."""

from byre.audit.finding import Finding, Stage, Unread
from byre.audit.judging import Report, judge
from byre.audit.rule import Rule
from byre.audit.running import audit, audit_disk

__all__ = ["Finding", "Report", "Rule", "Stage", "Unread", "audit", "audit_disk", "judge"]
