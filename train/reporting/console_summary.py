"""The lines that a person reads at the console when a run ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alphadecay.inspect.module_names import layer_and_type
from alphadecay.inspect.run import goodput_words
from alphadecay.inspect.run.grid import figures
from alphadecay.inspect.run.metrics import finite_or_none
from alphadecay.inspect.run.words import clock, engine_words, number
from train.config.run_folder import CHECKPOINTS, CONFIG, HEATMAP, METRICS, SUMMARY
from train.system.provenance import ROOT

EXTREMES = 3


def print_closing_summary(
    summary: Mapping[str, Any],
    alphas: Mapping[str, float],
    weight_decays: Mapping[str, float],
    output_dir: str | Path,
    elapsed: float,
    console: Console | None = None,
) -> None:
    """Print `closing_summary` to standard output."""
    (console or Console(highlight=False)).print(
        closing_summary(summary, alphas, weight_decays, output_dir, elapsed)
    )


def closing_summary(
    summary: Mapping[str, Any],
    alphas: Mapping[str, float],
    weight_decays: Mapping[str, float],
    output_dir: str | Path,
    elapsed: float,
) -> RenderableType:
    """Tell the end of a run to a person: what was gained, which modules decay most and least, where
    it all is, what to run next.

    Args:
        summary: the content of summary.json; a missing figure is left out.
        alphas: the last refresh's, by weight name; may be empty.
        weight_decays: likewise.
        output_dir: folder of the results.
        elapsed: seconds of this run.
    """
    parts: list[RenderableType] = [_headline(summary, elapsed)]
    if weight_decays:
        parts += [Text(), _decays(alphas, weight_decays)]
    parts += [Text(), _places(Path(output_dir))]
    results = Panel(
        Group(*parts),
        title=f"[bold]{summary.get('name', 'run')}: done[/]",
        border_style="green",
        padding=(1, 2),
        expand=False,
    )
    # Outside the frame, whose border would end up in a copied command.
    return Group(results, _next_steps(str(summary.get("name", "")), Path(output_dir)))


def _headline(summary: Mapping[str, Any], elapsed: float) -> Text:
    text = Text()
    figure = summary.get("figure", {})
    before = summary.get(f"{figure.get('name')}_first")
    after = summary.get(str(figure.get("name")))
    if before is not None and after is not None:
        text.append(f"Validation {figure['label']} ").append(number(before), style="bold")
        better = after < before if figure["better"] == "lower" else after > before
        text.append(" → ").append(number(after), style="bold green" if better else "bold red")
        if (published := summary.get("val_perplexity_published")) is not None:
            text.append(f"  ({number(published)} as the published code counts)", style="dim")
        text.append("\n")
    facts = [*_facts(summary), clock(elapsed)]
    text.append(" · ".join(facts), style="dim")
    return text.append("".join(f"\n{line}" for line in _costs(summary)), style="dim")


def _facts(summary: Mapping[str, Any]) -> list[str]:
    """Tell what the run was, leaving out what is missing."""
    forms: tuple[tuple[str, Callable[[Any], str]], ...] = (
        ("model_parameters", lambda count: f"{number(count)} parameters"),
        ("steps", lambda steps: f"{steps:,} steps"),
        ("tokens", lambda tokens: f"{number(tokens)} tokens"),
        ("tokens_per_second", lambda speed: f"{number(speed)} tokens/s"),
        ("mfu", lambda share: f"{share:.1%} MFU"),
    )
    facts = [form(summary[key]) for key, form in forms if summary.get(key)]
    engine = engine_words(summary)
    if engine and "world_size" in summary:
        ranks = summary["world_size"]
        facts.append(f"{engine} on {ranks} rank{'s' * (ranks != 1)}")
    return facts


def _costs(summary: Mapping[str, Any]) -> list[str]:
    """Tell what was chosen for the device, and where time and memory went."""
    lines = []
    if summary.get("chosen"):
        lines.append(f"Sizes: {summary['chosen']}")
    shares = {
        name: share for name, share in (summary.get("time_shares") or {}).items() if share >= 0.001
    }
    if goodput := summary.get("goodput"):
        lines.append(f"Training was {goodput_words.headline(goodput)}")
        lines += filter(None, [goodput_words.rest(goodput), goodput_words.remarks(goodput)])
    elif shares:
        parts = sorted(shares.items(), key=lambda item: -item[1])
        lines.append(
            "Time: " + ", ".join(f"{name.replace('_', '+')} {share:.1%}" for name, share in parts)
        )
    memory = summary.get("memory") or {}
    most = memory.get("peak_allocated_bytes") or memory.get("peak_resident_bytes")
    if most is not None:
        lines.append(f"Memory: at most {most / 2**30:.2f} GiB on a rank")
    if summary.get("mfu") and summary.get("peak_source"):
        lines.append(
            f"MFU is against {summary['peak_tflops']:.3g} TFLOP/s a rank ({summary['peak_source']})"
        )
    return lines


def _decays(alphas: Mapping[str, float], weight_decays: Mapping[str, float]) -> RenderableType:
    ordered = sorted(weight_decays, key=lambda name: weight_decays[name], reverse=True)
    if weight_decays[ordered[0]] == weight_decays[ordered[-1]]:
        return Text(f"Every module decays alike, by {figures(weight_decays[ordered[0]])}.")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Weight decay")
    table.add_column("module")
    table.add_column("decay", justify="right")
    table.add_column("α", justify="right")
    count = min(EXTREMES, len(ordered) // 2)
    for label, names, style in (
        ("strongest", ordered[:count], "red"),
        ("weakest", ordered[::-1][:count], "cyan"),
    ):
        for position, name in enumerate(names):
            # a module whose spectrum could not be fitted has none
            value = finite_or_none(alphas.get(name))
            alpha = "-" if value is None else f"{value:.2f}"
            decay = Text(figures(weight_decays[name]), style=style)
            table.add_row(label if position == 0 else "", _short(name), decay, alpha)
    return Group(
        table,
        Text(
            "A small α, a heavy tail, is read as strong learned features: those decay least.",
            style="dim",
        ),
    )


def _short(name: str) -> str:
    layer, kind = layer_and_type(name)
    return f"layer {layer} {kind}" if layer >= 0 else name


def _places(folder: Path) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Results")
    table.add_column(f"{folder}/", overflow="fold")
    places = (
        (HEATMAP, "α and decay by layer and type, a picture"),
        (METRICS, "every figure of the run, one JSON object a line"),
        (SUMMARY, "the figures above, with versions"),
        (CONFIG, "every setting of the run; --config takes it"),
        (CHECKPOINTS + "/", "what the next run goes on from"),
    )
    for name, what in places:
        if (folder / name).exists():
            table.add_row(Text(what, style="dim"), name)
    return table


def _next_steps(name: str, folder: Path) -> Text:
    # Broken by hand: a terminal's own wrapping would put a line break into a copied command.
    report = f"{_python()} {_program()} report {shlex.quote(str(folder))}"
    steps = [("All of it as one page for a browser", report)]
    if name == "quickstart":
        rival = (
            'make quickstart ARGS="--decay.method uniform \\\n'
            '    --name quickstart-uniform --output_dir runs/quickstart-uniform"'
        )
        steps.append(("The same run with one decay for all, to compare", rival))
    size = "llama_60m"
    next_size = "The paper's smallest model"
    if name == "llama-60m":
        size = "llama_130m"
        next_size = "The paper's next size"
    train = f"{_python()} {_place('train/pretrain.py')} --config {size}"
    steps.append((f"{next_size}, on C4 (GPUs advised)", train))
    text = Text("What next\n", style="bold")
    for what, command in steps:
        text.append(f"{what}:\n", style="not bold dim").append(f"  {command}\n", style="not bold")
    text.rstrip()
    return text


def _program() -> str:
    """Return what starts our commands from here: nothing named `train` is installed."""
    return "-m train" if Path.cwd() == ROOT else _place("train")


def _place(path: str) -> str:
    """Return a path of the project as one would type it here."""
    return path if Path.cwd() == ROOT else shlex.quote(str(ROOT / path))


def _python() -> str:
    """Return the running interpreter as one would type it here."""
    # No resolve(): the interpreter of a virtual environment is a link to the system's.
    executable = Path(sys.executable)
    here = Path.cwd()
    return str(executable.relative_to(here)) if executable.is_relative_to(here) else "python"
