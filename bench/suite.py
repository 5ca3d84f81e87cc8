"""What the suites that time Byre itself have in common: their options, and how they end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BYRE = str(Path(sys.executable).with_name("byre"))


def suite_parser(about: str | None) -> argparse.ArgumentParser:
    """The options of every suite; one may add its own before ``parsed``."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="small inputs, one run: does it run at all?")
    parser.add_argument("--runs", type=int, help="runs of each (default 5, quick 1)")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--output", type=Path, help="write the rows there as JSON too")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was asked for, ``runs`` decided; the folder for inputs is there."""
    options = parser.parse_args()
    options.runs = options.runs or (1 if options.quick else 5)
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def title(text: str, options: argparse.Namespace) -> None:
    print(f"# {text}\n")
    if options.quick:
        print("**A smoke run on small inputs: the aims don't apply.**\n")


def keep(schema: str, rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Write the rows where ``--output`` says."""
    if options.output:
        options.output.write_text(json.dumps({"schema": schema, "rows": rows}, indent=2))
