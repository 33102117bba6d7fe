"""The command line: `python -m tests.gpu [--budget SECONDS]`, and `python -m tests.gpu table`."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

BEGAN = time.monotonic()  # before the imports, which the budget pays for

if TYPE_CHECKING:
    from tests.gpu.cases import Case

RESULTS = Path(__file__).with_name("results")
OVERTIME = 60.0  # seconds past the budget after which a process that hangs is ended


def all_cases() -> Iterator[Case]:
    """Yield every case, in the order of its worth."""
    from tests.gpu import (
        equality,
        evidence,
        marked,
        program,
        refreshes,
        saves,
        speed,
        start,
        steps,
    )

    yield from equality.cases()
    yield from marked.cases()
    yield from refreshes.cases()
    yield from steps.cases()
    yield from speed.cases()
    yield from speed.engines()
    yield from program.cases()
    yield from saves.cases()
    yield from evidence.cases()
    yield from speed.ablations("60m")
    yield from start.cases()
    yield from speed.ablations("350m")
    yield from refreshes.more_cases()
    yield from marked.kernel_cases()


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description="Measure what needs a GPU, in the time there is."
    )
    parser.add_argument("--budget", type=float, default=480.0, help="seconds in all (default 480)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--toy", action="store_true", help="small models: a rehearsal")
    parser.add_argument(
        "--parts", nargs="+", default=[], help="only these, such as equality speed (default all)"
    )
    parser.add_argument(
        "--cases", nargs="+", default=["*"], help="only those of them whose names match, as 'LLR*'"
    )
    parser.add_argument("--out", type=Path, help=f"the JSON (default: in {RESULTS.name}/)")
    parser.add_argument(
        "--folder", type=Path, default=Path("data/gpu"), help="for the corpus and the runs"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        help="for the part evidence: a folder of C4-form *train*.json.gz and *validation*.json.gz, "
        "and maybe a tokenizer, spiece.model",
    )
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> int:
    """Run the cases; the exit code is 1 where something that must hold does not."""
    from train.system.environment import prepare_environment

    if options.device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
    prepare_environment()
    from train.system.device import uses_cuda

    if options.device == "cuda" and not uses_cuda():
        print("error: there is no GPU here; --device cpu --toy rehearses", file=sys.stderr)
        return 2
    from tests.gpu.cases import Budget, Session, is_right, run_cases
    from tests.gpu.hardware import facts, set_architectures
    from tests.gpu.report import out_file, tables, write
    from train.cluster import distributed

    world = distributed.start(5.0)
    set_architectures(world.device)
    options.folder.mkdir(parents=True, exist_ok=True)
    session = Session(world, options.toy, options.folder, options.corpus)
    budget = Budget(options.budget, BEGAN)
    machine = facts(world.device)
    out = options.out or out_file(RESULTS, machine, options.toy)
    chosen = [case for case in all_cases() if _is_chosen(case, options)]

    def save(parts: dict[str, Any]) -> None:
        spent = {"budget": options.budget, "used": budget.used, "toy": options.toy}
        write(out, {"machine": machine, **spent, "parts": parts})

    parts = run_cases(chosen, session, budget, save)
    print(f"\n{out}\n\n" + "\n\n".join(tables({"machine": machine, "parts": parts})))
    return 0 if is_right(parts) else 1


def _is_chosen(case: Case, options: argparse.Namespace) -> bool:
    if options.parts and case.part not in options.parts:
        return False
    return any(fnmatch(case.name, pattern) for pattern in options.cases)


def main(arguments: list[str]) -> int:
    """Measure, or print tables of what was measured."""
    if arguments[:1] == ["table"]:
        from tests.gpu.pages import table_command

        return table_command(arguments[1:], RESULTS)
    options = parse(arguments)
    # A case that waits for a GPU in vain cannot be cut off; what was measured is in the file.
    faulthandler.dump_traceback_later(options.budget + OVERTIME, exit=True)
    return measure(options)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # gloo's threads abort a normal exit now and then (pytorch#190489)
