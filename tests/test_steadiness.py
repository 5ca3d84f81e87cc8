"""What the suite promises of itself: the same cases in every run, and children that nothing of ours disturbs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn() -> list[object]:
    """What Hypothesis tries."""
    seen: list[object] = []

    @settings(max_examples=300)
    @given(st.integers() | st.text() | st.binary())
    def take(value: object) -> None:
        seen.append(value)

    take()
    return seen


def test_random_cases_hang_on_nothing_that_another_test_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = drawn()
    values = ", ".join(f"{0xB47E0000 + number}, 'constant {number}'" for number in range(500))
    (tmp_path / "another.py").write_text(f"CONSTANTS = ({values})\n")
    module = ModuleType("another")
    module.__file__ = str(tmp_path / "another.py")
    monkeypatch.setitem(sys.modules, "another", module)
    assert drawn() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_child_hears_signals_though_the_tests_run_in_the_background(number: signal.Signals) -> None:
    """A shell has SIGINT ignored for what it starts with &, nohup SIGHUP; that would go on to every child."""
    ask = f"import signal; print(signal.getsignal({int(number)}) != signal.SIG_IGN)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
