"""What every bench's command line has: repeats, a check, a JSON file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def new_parser(doc: str | None, repeats: int, judged: str = "") -> argparse.ArgumentParser:
    """A parser with --repeats, --check and --out; `judged` says where the targets hold, if not everywhere."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats, help=f"interleaved repeats (default {repeats})")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 where a target is missed{judged}")
    parser.add_argument("--out", type=Path, help="write the figures as JSON to this file")
    return parser


def finish(options: argparse.Namespace, results: dict[str, Any], met: Sequence[bool]) -> int:
    """Writes the figures; the exit status, 1 only with --check."""
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    return int(options.check and not all(met))
