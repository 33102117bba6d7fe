"""Times the preparation of a corpus against the tokenizer alone.

Each arm works on the same files with the same SentencePiece model, on two cores, in a process of
its own; they take turns:

  prepare    what `python -m train prepare` does: reads, checks, encodes, hashes and writes;
  encode     sentencepiece's own `encode` of the texts, in memory already, in two threads;
  datasets   `datasets` with the fast tokenizer of --fast: reads, encodes, writes, two processes;
  against    `prepare` of another checkout.

A figure is the arm's documents a second ÷ those of `encode`, turn by turn: by the wall, and by CPU
time, which other programs on the machine disturb less. Memory is the highest sum over an arm's
processes, pages that they share counted once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.common import finish, machine, new_parser, rotated, spread  # noqa: E402

CORES = 2
TARGETS = {"wall": 1.0, "memory": 0.5}  # of prepare: at least ÷ encode; at most ÷ against
SAMPLE_SECONDS = 0.05
# Every program sets `work`, which returns the number of documents.
PROGRAMS = {
    "prepare": """
from train.config import DataConfig
from train.data.loading.memmap import read_meta
from train.data.preparing.prepare import prepare

def work():
    config = DataConfig(source="files", files=files, tokenizer=model, directory=folder, workers=2)
    meta = read_meta(prepare(config, 1 << 20, lambda line: None))
    return meta.train.documents + meta.validation.documents
""",
    "encode": """
import gzip
import sentencepiece
processor = sentencepiece.SentencePieceProcessor(model_file=model)
texts = [json.loads(line)["text"] for name in files for line in gzip.open(name)]

def work():
    for start in range(0, len(texts), 1000):
        processor.encode(texts[start : start + 1000], out_type=int, num_threads=2)
    return len(texts)
""",
    "datasets": """
import datasets
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(fast)
datasets.disable_progress_bars()

def encoded(rows):
    return {"ids": tokenizer(rows["text"]).input_ids}

def work():
    rows = datasets.load_dataset("json", data_files=files, split="train", cache_dir=folder)
    return len(rows.map(encoded, batched=True, num_proc=2, remove_columns=rows.column_names))
""",
}
FRAME = """
import json, resource, sys, time
files, model, fast, folder = json.loads(sys.argv[1])
{program}
def cpu():
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(who)[:2]) for who in whose)

if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    began = cpu(), time.perf_counter()
    documents = work()
    wall = time.perf_counter() - began[1]
    print(json.dumps([documents, wall, cpu() - began[0]]), flush=True)
"""


def main() -> int:
    parser = new_parser(__doc__, 5, judged=", of the wall where nothing else runs")
    parser.add_argument("--files", nargs="+", required=True, help="C4-form .json.gz files")
    parser.add_argument("--tokenizer", required=True, help="a SentencePiece model")
    parser.add_argument("--fast", help="folder of the same as a fast tokenizer: adds `datasets`")
    parser.add_argument("--against", type=Path, help="another checkout: adds `against`")
    options = parser.parse_args()
    arms = ["prepare", "encode"]
    arms += ["datasets"] if options.fast else []
    arms += ["against"] if options.against else []
    turns: list[dict[str, dict[str, float]]] = []
    for repeat in range(options.repeats):
        turns.append({})
        for arm in rotated(tuple(arms), repeat):
            turns[-1][arm] = _run(arm, options)
            print(f"{repeat} {arm}: {turns[-1][arm]}", flush=True)
    figures = {
        arm: {
            what: spread([turn["encode"][what] / turn[arm][what] for turn in turns])
            for what in ("wall", "cpu")
        }
        | {what: spread([turn[arm][what] for turn in turns]) for what in ("rate", "megabytes")}
        for arm in arms
    }
    for arm, values in figures.items():
        shown = ", ".join(f"{what} {value['median']:.2f}" for what, value in values.items())
        print(f"{arm}: {shown}")
    size = sum(Path(name).stat().st_size for name in options.files)
    corpus = {"files": len(options.files), "bytes": size}
    results = {"machine": machine(), "corpus": corpus, "figures": figures, "turns": turns}
    met = [figures["prepare"]["wall"]["median"] >= TARGETS["wall"]]
    if options.against:
        memory = figures["prepare"]["megabytes"]["median"]
        met.append(memory <= TARGETS["memory"] * figures["against"]["megabytes"]["median"])
    return finish(options, results, met)


def _run(arm: str, options: Any) -> dict[str, float]:
    """Run one arm once: seconds by the wall and of the CPU, documents a second, megabytes."""
    program = PROGRAMS["prepare" if arm == "against" else arm]
    checkout = options.against.resolve() if arm == "against" else ROOT
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "arm.py")  # a file: processes that it starts load it again
        script.write_text(FRAME.format(program=program))
        inputs = json.dumps([options.files, options.tokenizer, options.fast, folder])
        process = subprocess.Popen(
            ["taskset", "-c", f"0-{CORES - 1}", sys.executable, str(script), inputs],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        with _Peak(process.pid) as peak:
            process.stdin.write("go\n")
            process.stdin.flush()
            documents, wall, cpu = json.loads(process.stdout.readline())
        process.stdin.close()
        process.wait()
    return {"wall": wall, "cpu": cpu, "rate": documents / wall, "megabytes": peak.bytes / 1e6}


class _Peak:
    """Watches the memory of a process and its descendants; a context manager."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            processes = [self._process, *self._process.children(recursive=True)]
            self.bytes = max(self.bytes, sum(map(_proportional, processes)))


def _proportional(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has just ended
        return 0


if __name__ == "__main__":
    started = time.perf_counter()
    code = main()
    print(f"{time.perf_counter() - started:.0f} s")
    sys.exit(code)
