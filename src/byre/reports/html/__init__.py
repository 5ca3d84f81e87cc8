"""A report as one HTML file that loads nothing and runs nothing."""

from byre.reports.html.page import as_html
from byre.reports.html.sections import BootRow, BootSection

__all__ = ["BootRow", "BootSection", "as_html"]
