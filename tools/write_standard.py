#!/usr/bin/env python3
"""Writes ``docs/extra-quality.md`` from the rules in ``src/byre/audit/``."""

from __future__ import annotations

from pathlib import Path

from byre.audit.standard import page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extra-quality.md"

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
