"""docs/accuracy.md is what the mutation suite gives today."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_page_is_what_the_suite_gives() -> None:
    spec = importlib.util.spec_from_file_location("measure_accuracy", ROOT / "tools" / "measure_accuracy.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tool  # dataclasses look their module up
    spec.loader.exec_module(tool)
    page = tool.page(tool.measure())
    assert (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8") == page, "run tools/measure_accuracy.py"
