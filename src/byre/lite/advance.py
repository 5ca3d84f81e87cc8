"""How far a change has come, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Advance: TypeAlias = Callable[[int], None]
"""Called with how much more was done: names, files or bytes, as the function that takes it says."""


def quiet(amount: int) -> None:
    """Told to nobody."""
