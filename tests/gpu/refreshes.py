"""A refresh of whole models, and what an eigensolver takes by size and precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from alphadecay import AdamW, AlphaDecay
from alphadecay.calibration import known_ways
from tests.bench import spectral
from tests.bench.refresh_jobs import hill
from tests.gpu.cases import Case, Figures, Session
from tests.gpu.recipes import LENGTH, model_of
from train.models.build import build_model

# Model -> seconds of its case.
MODELS = {"60m": 6.0, "350m": 14.0, "1b": 25.0, "130m": 8.0}
PUBLISHED = ("60m", "350m")  # svdvals of 1B's matrices would take too long
SIDES = {512: 1.0, 768: 1.0, 1024: 1.0, 2048: 3.0, 4096: 4.0}
STACKS = tuple((side, count) for side in (512, 1024, 2048, 4096) for count in (8, 24, 96))
REPEATS = 3
_STACK_BYTES = 30e9  # of a stack in float32, with what is made of it


def cases() -> Iterator[Case]:
    """Yield a case for each model, then one for each side of a matrix."""
    for model, seconds in MODELS.items():
        if model != "130m":
            yield Case("refreshes", model, seconds, lambda s, model=model: refresh(model, s))
    for side, seconds in SIDES.items():
        yield Case("eigvalsh", f"{side}", seconds, lambda s, side=side: eigvalsh(side, s))


def more_cases() -> Iterator[Case]:
    """Yield those of less worth: another model, and stacks of matrices."""
    yield Case("refreshes", "130m", MODELS["130m"], lambda session: refresh("130m", session))
    for side, count in STACKS:
        if 4.0 * count * side**2 * 4 <= _STACK_BYTES:
            seconds = 1.0 + 9 * count * (4e-3 + 3e-12 * side**3)  # of eigvalsh on an H200
            yield Case(
                "stacks",
                f"{count} x {side}",
                seconds,
                lambda session, side=side, count=count: stack(side, count, session),
            )


def refresh(name: str, session: Session) -> Figures:
    """Time AlphaDecay.refresh() of a model's weights, and count the memory it takes."""
    # The embedding and the head are no modules: a small vocabulary leaves the matrices that are.
    config = replace(model_of(name), vocab_size=64)
    if session.toy:
        config = replace(config, hidden_size=64, intermediate_size=172, num_layers=2, num_heads=4)
    model = build_model(config, LENGTH, seed=7).to(session.device)
    started = session.now()
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1), interval=10**9)
    first = session.now() - started
    seconds, extra = _repeated(decay, session)
    shapes = {weight: parameter.shape for weight, parameter in model.named_parameters()}
    sides = {shapes[weight] for weight in decay.weight_decays}
    figures: Figures = {
        "modules": len(decay.weight_decays),
        "refresh": median(seconds),
        "first": first,
        "all": seconds,
    }
    if session.cuda:
        figures["extra_over_largest"] = extra / (4 * max(shape.numel() for shape in sides))
        figures["ways"] = {
            f"{rows} x {columns}": f"{way.precision} {way.solver}"
            for (rows, columns), way in known_ways(map(tuple, sides), session.device).items()
        }
    alphas = decay.alphas
    decay.remove()
    figures |= _by_moments(model, alphas, session)
    if name in PUBLISHED:
        figures["published"] = config.num_layers * _published(model, session)
    return figures


def _repeated(decay: AlphaDecay, session: Session) -> tuple[list[float], int]:
    """Return the seconds of some refreshes, and the bytes that one takes at most."""
    seconds = []
    extra = 0
    for _ in range(REPEATS):
        before = _allocated(session)
        started = session.now()
        decay.refresh()
        seconds.append(session.now() - started)
        extra = max(extra, _peak(session) - before)
    return seconds, extra


def _by_moments(model: Any, alphas: Mapping[str, float], session: Session) -> Figures:
    """Return what a refresh takes by products alone, and how far its alphas are from `alphas`."""
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=10**9, method="moments")
    seconds, _ = _repeated(decay, session)
    found = decay.alphas
    decay.remove()
    error = max(abs(found[weight] - alpha) for weight, alpha in alphas.items())
    return {"moments": median(seconds), "moments_alpha_error": error}


def _published(model: Any, session: Session) -> float:
    """Return the seconds of float32 svdvals of one layer's matrices."""
    weights = [p.detach() for p in model.model.layers[1].parameters() if p.dim() == 2]
    hill(weights[0])  # the first call sets the library up
    started = session.now()
    for weight in weights:
        hill(weight)
    return session.now() - started


def _allocated(session: Session) -> int:
    if not session.cuda:
        return 0
    torch.cuda.reset_peak_memory_stats(session.device)
    return torch.cuda.memory_allocated(session.device)


def _peak(session: Session) -> int:
    return torch.cuda.max_memory_allocated(session.device) if session.cuda else 0


def eigvalsh(side: int, session: Session) -> Figures:
    """Time eigvalsh of a Gram matrix in float32 and float64, and svdvals, in milliseconds."""
    side = side // 16 if session.toy else side
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(side, 2 * side, generator=generator).to(session.device)
    gram = weight @ weight.T
    wide = gram.double()
    jobs: dict[str, spectral.Job] = {
        "float32": lambda: torch.linalg.eigvalsh(gram),
        "float64": lambda: torch.linalg.eigvalsh(wide),
        "gram": lambda: weight @ weight.T,
    }
    if side <= 2048:
        jobs["svdvals"] = lambda: torch.linalg.svdvals(gram)
    seconds = spectral.interleave(jobs, REPEATS, session.cuda)["seconds"]
    return {name: 1e3 * one["median"] for name, one in seconds.items()}


def stack(side: int, count: int, session: Session) -> Figures:
    """Time the ways of tests/bench/spectral.py through a stack of matrices, in milliseconds."""
    if session.toy:
        side, count = side // 16, count // 8
    found = spectral.bench_stack(side, count, 2, session.device.type)
    milliseconds = {name: 1e3 * one["median"] for name, one in found["seconds"].items()}
    return milliseconds | {"of_moments": found["moments"]}
