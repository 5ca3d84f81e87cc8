"""``MACHINE.toml`` written: what a descriptor says of its machine, as ``machine.overrides`` reads it back. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from byre.machine.export.quoting import one_line, toml_text
from byre.machine.overrides import Value
from byre.units import MIB


def machine_toml(settings: Mapping[str, Value], source: str) -> str:
    """The file. Only what the descriptor says: the rest stays with the guest's own facts."""
    rows = "".join(f"{name} = {_value(name, value)}\n" for name, value in settings.items())
    about = f"# What {one_line(source)} says of its machine; read beside the image. Remove what you don't want."
    return f"{about}\n[machine]\n{rows}"


def _value(name: str, value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return toml_text(f"{value // MIB}MiB") if name == "memory" else str(value)
    if isinstance(value, str):
        return toml_text(value)
    return f"[{', '.join(toml_text(each) for each in value)}]"
