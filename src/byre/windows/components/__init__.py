"""Optional parts of Windows as data: what each is made of, and what is lost without it."""

from byre.windows.components.component import Component, Places
from byre.windows.components.loading import built_in_components, parse_components, read_components

__all__ = ["Component", "Places", "built_in_components", "parse_components", "read_components"]
