"""Registry hives (regf), read-only: keys, values, transaction logs, and what is left of damaged ones."""

from byre.windows.registry.hive import Hive, Key, Value, open_hive

__all__ = ["Hive", "Key", "Value", "open_hive"]
