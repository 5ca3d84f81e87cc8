"""Reports as HTML pages, each one file that loads nothing and runs nothing."""

from byre.reports.html.audit_page import as_html
from byre.reports.html.sections import BootRow, BootSection

__all__ = ["BootRow", "BootSection", "as_html"]
