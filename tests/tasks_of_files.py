"""Tasks for lm-eval made of local files: questions of made-up words."""

from __future__ import annotations

import json
import random
from pathlib import Path

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{target}"
metric_list:
  - {{metric: {metric}, aggregation: mean, higher_is_better: true}}
"""


def write_task(folder: Path, name: str, questions: int = 9, kind: str = "multiple_choice") -> Path:
    """Write a task and its questions, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(name)
    words = ["".join(chance.choices("abcdefghijklmnop", k=4)) for _ in range(40)]
    rows = [
        {
            "question": " ".join(chance.choices(words, k=chance.randint(1, 9))),
            "choices": [" ".join(chance.choices(words, k=k)) for k in (1, 3, 2)],
            "label": chance.randrange(3),
        }
        for _ in range(questions)
    ]
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = kind == "multiple_choice"
    target, metric = ("{{label}}", "acc") if chosen else ("{{choices[0]}}", "exact_match")
    text = TASK.format(name=name, file=file, kind=kind, target=target, metric=metric)
    if chosen:
        text += "  - {metric: acc_norm, aggregation: mean, higher_is_better: true}\n"
    (folder / f"{name}.yaml").write_text(text)
    return folder
