"""A run's folder made by hand, by the writers that a run itself uses, and a page taken apart."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import torch

from alphadecay.inspect.run.parts import PARTS
from train.checkpoint.manifest import FORMAT, MANIFEST, STATE, facts_of_files
from train.config import TrainConfig
from train.config.command_line import dump_config
from train.loop.run_status import write_state
from train.telemetry.metrics import MetricsWriter

LLAMA = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)

NOT_FINITE = 3  # the step whose loss is not
SKIPPED = {
    "notice": "step skipped: <not> finite",
    "loss": math.nan,
    "in_a_row": 1,
    "skipped_steps": 1,
}


def weight_names(layers: int, types: tuple[str, ...] = LLAMA) -> list[str]:
    """Name the weights as the LLaMA does."""
    return [f"model.layers.{layer}.{kind}.weight" for layer in range(layers) for kind in types]


def alpha(step: int, place: int) -> float:
    """Make up an α that no other refresh or module has."""
    return 2.0 + math.sin(1.0 + step * 0.37 + place * 1.13) / 2


def write_records(
    path: Path, steps: int, interval: int, names: list[str], alphas: bool = True
) -> None:
    """Write training lines at every step, a validation at the first and the last, refreshes every
    `interval` steps.
    """
    with MetricsWriter(path) as writer:
        for step in range(steps + 1):
            if interval and step % interval == 0:
                writer.write("refresh", step, refresh_figures(step, names, alphas))
            if step:
                writer.write("train", step, training_figures(step))
            if step == NOT_FINITE:
                writer.write("notice", step, SKIPPED)
            if step in (0, steps):
                loss = 8.0 - step / 100
                figures = {"val_loss": loss, "val_perplexity": math.exp(loss)}
                writer.write("validation", step, figures)


def refresh_figures(step: int, names: list[str], alphas: bool) -> dict[str, Any]:
    """Make up α, if wanted, and decay of every weight."""
    measured = {name: alpha(step, place) for place, name in enumerate(names)}
    decays = {name: value / 10 for name, value in measured.items()}
    return {"alphas": measured if alphas else {}, "weight_decays": decays}


def training_figures(step: int) -> dict[str, Any]:
    """Make up the figures of a training line."""
    seconds = {part: (place + 1) * 0.01 + step * 1e-4 for place, part in enumerate(PARTS)}
    return {
        "loss": math.nan if step == NOT_FINITE else 8.0 / step**0.2,
        "tokens": step * 100,
        "mfu": 0.25,
        "peak_tflops": 2.0,
        "seconds": seconds,
        "memory": {"peak_resident_bytes": 2.0**30 + step},
    }


def make_run(
    folder: Path,
    steps: int = 12,
    interval: int = 4,
    layers: int = 3,
    name: str = "a run",
    method: str = "alphadecay",
    alphas: bool = True,
    state: str = "finished",
    reason: str = "",
) -> Path:
    """Write all that a run leaves but summary.json, the picture and checkpoints."""
    folder.mkdir()
    write_records(folder / "metrics.jsonl", steps, interval, weight_names(layers), alphas)
    config = TrainConfig(name=name)
    decay = dataclasses.replace(config.decay, method=method)  # type: ignore[arg-type]
    run = dataclasses.replace(config.run, steps=steps)
    (folder / "config.yaml").write_text(
        dump_config(dataclasses.replace(config, decay=decay, run=run))
    )
    write_state(folder, state, step=steps, steps=steps, reason=reason)  # type: ignore[arg-type]
    return folder


def write_checkpoint(run: Path, weights: dict[str, torch.Tensor], step: int = 12) -> Path:
    """Write a complete checkpoint of stage 0 in float32; its model file holds the weights."""
    folder = run / "checkpoints" / f"step-{step:08}"
    (folder / STATE).mkdir(parents=True)
    torch.save({"module": weights, "optimizer": {}}, folder / STATE / "mp_rank_00_model_states.pt")
    files = facts_of_files(folder, [path for path in folder.rglob("*") if path.is_file()])
    manifest = {
        "format": FORMAT,
        "step": step,
        "commit": step,
        "world_size": 2,
        "zero_stage": 0,
        "precision": "float32",
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def island(text: str, name: str) -> Any:
    """Return the JSON that a page holds under a name."""
    pattern = rf'<script type="application/json" id="{name}">(.*?)</script>'
    match = re.search(pattern, text, re.DOTALL)
    assert match, name
    return json.loads(match[1])


def chart(text: str, name: str) -> dict[str, Any]:
    """Return the figure of one chart, with its traces by name under "traces"."""
    figure = next(figure for figure in island(text, "figures") if figure["id"] == name)
    return figure | {"traces": {trace.get("name"): trace for trace in figure["data"]}}
