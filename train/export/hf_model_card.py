"""The model card of an export: a README.md as the Hugging Face hub reads it.

Every figure comes from the run's own files, as they were at the step of the checkpoint; what they
do not say is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from alphadecay.inspect.run.metrics import PERPLEXITY, Record, figure_of
from alphadecay.inspect.run.words import engine_words, number
from train.config.decay import METHODS
from train.config.in_words import (
    data_words,
    images_words,
    schedule_words,
    sentences_words,
    tokenizer_words,
)
from train.export.card_sources import Exported, Sources, read_sources
from train.export.card_tasks import card_task
from train.export.decay_table import decay_table
from train.export.latent import statistic_of, use_as_trained

FILE = "README.md"
C4 = "allenai/c4"
PAPER = "https://arxiv.org/abs/2506.14562"
DECAY_KEYS = {"interval", "s1", "s2", "assign", "tail"}
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgdw": "SGDW", "sgd": "SGD"}

Facts = list[tuple[str, str]]


def model_card(exported: Exported, license_id: str = "") -> str:
    """Return the card as Markdown with YAML before it.

    Args:
        license_id: its identifier on the hub; empty leaves it out.
    """
    sources = read_sources(exported)
    environment = Environment(
        loader=PackageLoader("train.export", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["cell"] = _cell
    environment.filters["thousands"] = "{:,}".format
    return environment.get_template("model_card.md.j2").render(
        front_matter=_front_matter(sources, license_id),
        name=_cell(_name(sources)),
        introduction=_introduction(sources),
        statistic=statistic_of(exported.quantize),
        use=use_as_trained(card_task(exported.architecture).use, exported.quantize),
        training=_training(sources),
        method=_method(sources),
        decays=decay_table(sources.records("refresh"), sources.step),
        task=card_task(exported.architecture),
        figures=_figures(sources),
        versions=_versions(sources),
    )


def _front_matter(sources: Sources, license_id: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=C4,
            dataset_name="C4, validation",
            dataset_config="en",
            dataset_split="validation",
            metric_type="perplexity",
            metric_value=round(record["val_perplexity"], 4),
        )
        for record in _last_validation(sources)
        if sources.of_c4 and sources.config and not sources.config.data.validation_files
    ]
    tags = [sources.exported.architecture, sources.method]
    card = ModelCardData(
        language="en" if sources.of_c4 else None,
        license=license_id or None,
        library_name="transformers",
        pipeline_tag=card_task(sources.exported.architecture).pipeline,
        tags=[tag for tag in tags if tag],
        datasets=[C4] if sources.of_c4 else None,
        model_name=_name(sources) if results else None,
        eval_results=results or None,
    )
    return str(card.to_yaml(line_break="\n")).strip()


def _name(sources: Sources) -> str:
    return sources.run.name if sources.run else f"{sources.exported.architecture} model"


def _introduction(sources: Sources) -> str:
    exported = sources.exported
    tokens = _tokens(sources)
    unit = card_task(exported.architecture).unit.lower()
    seen = f" and {number(tokens)} {unit}" if tokens else ""
    masters = "the float32 weights that it was trained with"
    weights = masters if exported.dtype == "float32" else f"{masters}, rounded to {exported.dtype}"
    task = card_task(exported.architecture)
    return (
        f"{task.noun} of {number(exported.parameters)} parameters ({exported.architecture}), "
        f"{task.trained} for {sources.step:,} steps{seen}. These are {weights}."
    )


def _tokens(sources: Sources) -> float | None:
    """Return the tokens seen by the checkpoint's step; None where nothing is of that step."""
    for figures in (*sources.records("train")[-1:], sources.summary):
        at = figures.get("step", figures.get("steps"))
        if at == sources.step and figures.get("tokens"):
            return float(figures["tokens"])
    return None


def _training(sources: Sources) -> Facts:
    config = sources.config
    tokens = _tokens(sources)
    facts: dict[str, str] = {}
    unit = card_task(sources.exported.architecture).unit
    if config is not None and config.task == "image_classification":
        facts["Data"] = images_words(config.images)
    elif config is not None and config.task != "language_modelling":
        facts["Data"] = sentences_words(config.sentences)
        facts["Begun with"] = Path(config.model.pretrained).name
    elif config is not None:
        facts["Data"] = data_words(config.data, whole_paths=False)
        facts["Tokenizer"] = tokenizer_words(config.data)
    facts[unit] = f"{tokens:,.0f}" if tokens else ""
    facts["Steps"] = f"{sources.step:,}"
    facts["Rows a step"] = _thousands(sources.manifest.get("global_batch"))
    facts[f"{unit} in a row"] = _thousands(sources.manifest.get("sequence_length"))
    if config is not None:
        optim = config.optim
        facts["Peak learning rate"] = f"{optim.lr:g}"
        facts["Schedule"] = schedule_words(optim, config.run.steps)
        facts["Gradient clipping"] = f"{optim.grad_clip:g}" if optim.grad_clip else "none"
    facts["Optimizer"] = _optimizer(sources.manifest.get("optimizer") or {})
    facts["Precision"] = _precision(sources.manifest)
    facts["Ranks"] = _ranks(sources)
    facts["Seeds"] = _seeds(sources.manifest)
    return [(label, text) for label, text in facts.items() if text]


def _optimizer(saved: Mapping[str, Any]) -> str:
    if "name" not in saved:
        return ""
    keys = ("momentum",) if saved["name"].startswith("sgd") else ("beta1", "beta2", "eps")
    constants = [f"{key} {saved[key]:g}" for key in keys if key in saved]
    return ", ".join([OPTIMIZERS.get(saved["name"], str(saved["name"])), *constants])


def _ranks(sources: Sources) -> str:
    ranks = sources.manifest.get("world_size")
    shard = sources.config.engine.shard if sources.config is not None else 0
    engine = engine_words({"engine_shard": shard} | sources.manifest)
    device = sources.summary.get("device")
    if ranks is None:
        return ""
    text = f"{ranks} on {device}" if device else f"{ranks}"
    return f"{text}, {engine}" if engine else text


def _precision(manifest: Mapping[str, Any]) -> str:
    precision = str(manifest.get("precision") or "")
    if precision in ("", "float32"):
        return precision
    kept = "weights" if manifest.get("engine") == "fsdp2" else "masters"
    return f"{precision} with float32 {kept}"


def _seeds(manifest: Mapping[str, Any]) -> str:
    names = {"init_seed": "initialisation", "seed": "order of the data"}
    known = [f"{words} {manifest[key]}" for key, words in names.items() if key in manifest]
    return ", ".join(known)


def _method(sources: Sources) -> str:
    base = (sources.manifest.get("optimizer") or {}).get("weight_decay")
    if sources.method not in METHODS or base is None:
        return ""
    family = METHODS[sources.method].family  # type: ignore[index]
    if family == "none":
        return "None."
    if family == "norms":
        return f"None: `{sources.method}` held the norms of the weight matrices."
    if family == "uniform":
        return f"One for all weight matrices: {base}."
    decay = sources.manifest["decay"]
    if not decay.keys() >= DECAY_KEYS:  # of another version
        return f"`{sources.method}`, around a base of {base}."
    every = f"refreshed every {decay['interval']} steps"
    if family == "gradients":
        return f"`{sources.method}`, from gradients, around a base of {base}, {every}."
    how = (
        f"Each weight matrix decays by {decay['s1']} to {decay['s2']} times a base of {base}, "
        f"{every} ({decay['assign']} map, {decay['tail']} tail)"
    )
    if sources.method == "alphadecay":
        return f"{how}, by the tail exponent α of its spectrum: [AlphaDecay]({PAPER})."
    return f"{how}, by `{sources.method}`, a variant of [AlphaDecay]({PAPER})."


def _last_validation(sources: Sources) -> list[Record]:
    """Return the last validation with a figure, or nothing."""
    records = sources.records("validation")
    known = [record for record in records if record.get(figure_of(records).name) is not None]
    return known[-1:]


def _figures(sources: Sources) -> Facts:
    facts: Facts = []
    for record in _last_validation(sources):
        if (figure := figure_of([record])) != PERPLEXITY:
            facts.append((figure.label, f"{record[figure.name]:,.2f}"))
            continue
        facts.append(("Validation, the mean over tokens", f"{record['val_perplexity']:,.2f}"))
        published = record.get("val_perplexity_published")
        if published is not None:
            facts.append(("The same, as AlphaDecay's published code counts", f"{published:,.2f}"))
        if record.get("val_tokens"):
            facts.append(("Validation tokens", f"{record['val_tokens']:,.0f}"))
        if record["step"] != sources.step:
            facts.append(("Taken at step", f"{record['step']:,}"))
    return facts


def _versions(sources: Sources) -> Facts:
    summary = sources.summary
    versions = summary.get("versions") or {}
    facts = {"commit": summary.get("commit"), "sources": summary.get("sources"), **versions}
    return [(label, str(text)) for label, text in facts.items() if text]


def _thousands(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _cell(text: str) -> str:
    """Return one line that ends no cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")
