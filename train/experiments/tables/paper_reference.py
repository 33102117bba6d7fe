"""Sets a run's set-up, point by point, beside the paper's: AlphaDecay, arXiv 2506.14562, and its
published code where the paper is silent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from alphadecay.inspect.run.words import number
from train.config import ModelConfig, TrainConfig
from train.config.decay import METHODS
from train.config.in_words import data_words, schedule_words, tokenizer_words
from train.experiments.tables.collect import Record

PAPER = "2506.14562"
# SentencePiece model of google-t5/t5-small, t5-base and the others, which share it.
T5_SHA256 = "d60acb128cf7b7f2536e8f38a5b18a05535c9e14c7a355904270e15b0945ea86"
T5_NAMES = tuple(
    f"hf:{owner}t5-{size}"
    for owner in ("", "google-t5/")
    for size in ("small", "base", "large", "3b", "11b")
)
# about 99 batches of 512 rows in 10 M validation tokens, ~198 a row; it divides by one more
PUBLISHED_FACTOR = 99 / 100
NEAR = 0.05  # the paper rounds its token counts


@dataclass(frozen=True)
class Size:
    """A model of the paper. Tokens without fill; lr is the peak."""

    name: str
    hidden: int
    intermediate: int
    heads: int
    layers: int
    steps: int
    tokens: float
    lr: float


SIZES = (
    Size("60M", 512, 1376, 8, 8, 10_000, 1e9, 1e-3),
    Size("135M", 768, 2048, 12, 12, 20_000, 2e9, 1e-3),
    Size("350M", 1024, 2736, 16, 24, 60_000, 6e9, 1e-3),
    Size("1B", 2048, 5461, 32, 24, 90_000, 9e9, 6e-4),
)


@dataclass(frozen=True)
class Point:
    """One thing a set-up has.

    Args:
        what: its name.
        here: what the run has.
        paper: what the paper has.
        same: whether they agree.
    """

    what: str
    here: str
    paper: str
    same: bool


def points(record: Record) -> Iterator[Point]:
    """Compare every point of a run's set-up that the paper has a word on, and some that decide its
    figures besides.
    """
    config = record.config
    size = size_of(record.config.model)
    yield from _text(record)
    yield from _length(record, size)
    yield from _optimizer(config, size)
    yield from decay_points(record)
    yield _precision(record)
    yield from _validation(record)


def size_of(model: ModelConfig) -> Size | None:
    """Return the paper's model of the same shape; None where it has none."""
    shape = (model.hidden_size, model.intermediate_size, model.num_heads, model.num_layers)
    if (
        model.architecture != "llama"
        or model.tie_embeddings
        or model.num_kv_heads not in (0, model.num_heads)
    ):
        return None
    shapes = {(size.hidden, size.intermediate, size.heads, size.layers): size for size in SIZES}
    return shapes.get(shape)


def _text(record: Record) -> Iterator[Point]:
    data = record.config.data
    model = record.config.model
    yield Point("data", data_words(data), "C4", data.source == "c4" and not data.mixture)
    t5 = record.tokenizer == T5_SHA256 or data.tokenizer.partition("@")[0] in T5_NAMES
    yield Point("tokenizer", "T5's" if t5 else _tokenizer_words(record), "T5's", t5)
    yield Point("vocabulary", f"{model.vocab_size:,}", "32,000", model.vocab_size == 32_000)
    padded = "one document a row, cut or filled"
    form = padded if data.rows == "padded" else "packed, no fill"
    yield Point("rows", form, f"{padded} (published code)", data.rows == "padded")
    yield Point("row length", f"{data.sequence_length:,}", "256", data.sequence_length == 256)


def _length(record: Record, size: Size | None) -> Iterator[Point]:
    model = record.config.model
    run = record.config.run
    shape = (
        f"hidden {model.hidden_size}, intermediate {model.intermediate_size}, {model.num_heads} "
        f"heads, {model.num_layers} layers"
    )
    yield Point("model", size.name if size else shape, "60M, 135M, 350M or 1B", size is not None)
    yield Point("rows a step", f"{run.global_batch:,}", "512", run.global_batch == 512)
    steps = f"{size.steps:,}" if size else f"{SIZES[0].steps:,} to {SIZES[-1].steps:,}"
    yield Point("steps", f"{run.steps:,}", steps, size is not None and run.steps == size.steps)
    tokens = int(record.summary.get("tokens") or 0)
    wanted = (
        number(size.tokens) if size else f"{number(SIZES[0].tokens)} to {number(SIZES[-1].tokens)}"
    )
    yield Point(
        "tokens",
        number(tokens),
        f"{wanted} without fill",
        size is not None and math.isclose(tokens, size.tokens, rel_tol=NEAR),
    )


def _optimizer(config: TrainConfig, size: Size | None) -> Iterator[Point]:
    optim = config.optim
    steps = config.run.steps
    lr = f"{size.lr:g}" if size else "0.001, at 1B 0.0006"
    yield Point(
        "peak learning rate",
        f"{optim.lr:g}",
        lr,
        size is not None and math.isclose(optim.lr, size.lr),
    )
    usual = (
        optim.schedule == "cosine"
        and math.isclose(optim.min_lr_ratio, 0.1)
        and abs(optim.warmup_steps - 0.1 * steps) <= 1
    )
    yield Point("schedule", schedule_words(optim, steps), "cosine to 10 %, 10 % warm-up", usual)
    clip = f"{optim.grad_clip:g}" if optim.grad_clip else "none"
    yield Point("gradient clipping", clip, "1 (published code: none)", optim.grad_clip == 1.0)
    adam = (optim.beta1, optim.beta2, optim.eps)
    words = "beta1 {:g}, beta2 {:g}, eps {:g}"
    is_adam = optim.name in ("adamw", "adam")
    yield Point(
        "Adam",
        words.format(*adam) if is_adam else f"{optim.name}, momentum {optim.momentum:g}",
        words.format(0.9, 0.999, 1e-8) + " (published code)",
        is_adam and adam == (0.9, 0.999, 1e-8),
    )


def decay_points(record: Record) -> Iterator[Point]:
    """Compare where the methods' implementations differ; rows of one table may, too."""
    decay = record.config.decay
    if not METHODS[decay.method].decays or record.config.optim.weight_decay == 0:
        return
    everything = decay.compat == "published"
    yield Point(
        "norm gains",
        "decayed" if everything else "not decayed",
        "decayed (published code)",
        everything,
    )
    if METHODS[decay.method].family == "spectral":
        own = "the base decay" if everything else "a decay of its own"
        yield Point("first linear weight", own, "the base decay (published code)", everything)


def _precision(record: Record) -> Point:
    dtype = str(record.summary.get("precision") or "not recorded")
    kept = "weights" if record.summary.get("engine") == "fsdp2" else "masters"
    here = f"bfloat16 with float32 {kept}" if dtype == "bfloat16" else dtype
    # The program keeps float32 masters or weights always, so this never agrees.
    return Point(
        "precision", here, "bfloat16 throughout, no float32 masters (published code)", False
    )


def _validation(record: Record) -> Iterator[Point]:
    tokens = record.summary.get("val_tokens") or 0
    limit = record.config.eval.tokens
    here = f"at most {number(limit)}" if limit else "all there are"
    if tokens:
        here = number(tokens)
    same = math.isclose(tokens, 10e6, rel_tol=NEAR)
    yield Point("validation tokens", here, "10M (published code)", same)
    if record.published and record.published > 1 and record.value > 1:
        factor = math.log(record.published) / math.log(record.value)
        theirs = f"loss × {PUBLISHED_FACTOR:.2f}, from about 99 validation batches"
        yield Point(
            "counted as published",
            f"loss × {factor:.2f}",
            theirs,
            math.isclose(factor, PUBLISHED_FACTOR, abs_tol=0.002),
        )


def _tokenizer_words(record: Record) -> str:
    words = tokenizer_words(record.config.data)
    if record.config.data.tokenizer and record.tokenizer:
        return f"{words}, SHA-256 {record.tokenizer[:8]}…"
    return words
