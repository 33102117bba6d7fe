"""Begins from the weights of a Hugging Face folder, a tensor at a time, however a model is sharded.

Nothing of the folder is run: safetensors are plain bytes, and a pickle is read through the
restricted loader. No rank has more of them in memory than one tensor beside its own share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources.huggingface import open_folder, weights_of
from alphadecay.inspect.sources.source import Source, StoredTensor
from alphadecay.modules import whole_shape
from train.config import ModelConfig
from train.errors import UserError
from train.models import spec_of
from train.models.initialise import Gathered, put_whole

# What config.json calls a size -> what it is called here; None where it has no key.
_SIZES: Mapping[str, str | None] = {
    "vocab_size": "model.vocab_size",
    "hidden_size": "model.hidden_size",
    "intermediate_size": "model.intermediate_size",
    "num_hidden_layers": "model.num_layers",
    "num_attention_heads": "model.num_heads",
    "max_position_embeddings": "model.max_positions",
    "type_vocab_size": None,
    "layer_norm_eps": "model.rms_norm_eps",
    "pad_token_id": None,
    "hidden_act": None,
}
_HEAD = "classifier."
_SHOWN = 4  # names in a line


def check_pretrained(model: ModelConfig, positions: int) -> None:
    """Refuse a folder that is not of the model's shape, before anything is built.

    Raises:
        UserError: names every size that differs, and the keys to set.
    """
    if not model.pretrained:
        return
    source = _open(model)
    kind = source.config.get("model_type")
    if kind != model.architecture:
        raise UserError(
            f"model.pretrained: {model.pretrained} holds a {kind or 'model of no known type'}, and "
            f"model.architecture is {model.architecture}"
        )
    here = spec_of(model).config(model, positions).to_dict()
    beyond = here["max_position_embeddings"] - (model.max_positions or positions)
    differing = []
    for name, key in _SIZES.items():
        there = source.config.get(name, here[name])
        if there != here[name]:
            value = there - beyond if name == "max_position_embeddings" else there
            way_out = f" (--{key} {value})" if key else ""
            differing.append(f"{name} is {there} there and {here[name]} here{way_out}")
    if differing:
        raise UserError(
            f"model.pretrained: {model.pretrained} is not of the shape that the recipe describes: "
            f"{'; '.join(differing)}"
        )


def load_pretrained(module: nn.Module, model: ModelConfig) -> None:
    """Put the folder's weights into an initialised model; a head that it lacks stays as drawn.

    Collective where weights are partitioned.

    Raises:
        UserError: a weight of the encoder is missing, broken or of another shape. On every rank.
    """
    parameters = dict(module.named_parameters())
    body: Any = module
    source = _open(model)
    stored = _by_name(source, f"{body.base_model_prefix}.")
    fresh = _check_weights(parameters, stored, source)
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name in fresh:
                continue
            with Gathered(parameter) as writes:
                if writes:
                    tensor = stored[name]
                    put_whole(parameter, tensor.read().view(tensor.shape).float())
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(*_told(source, parameters, stored, fresh), sep="\n", flush=True)


def _open(model: ModelConfig) -> Source:
    folder = Path(model.pretrained).expanduser()
    weights = weights_of(folder) if folder.is_dir() else None
    if weights is None:
        raise UserError(
            f"model.pretrained: {folder} is no folder of a model: it needs config.json and "
            "model.safetensors; get the model again"
        )
    try:
        return open_folder(folder, weights)
    except InspectError as error:
        raise UserError(f"model.pretrained: {error}") from error


def _by_name(source: Source, prefix: str) -> dict[str, StoredTensor]:
    """Return the stored tensors by the names of a classifier's own.

    A bare encoder has no prefix; the first BERTs call gain and bias gamma and beta.
    """
    found = {}
    for name, tensor in source.tensors.items():
        own = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        bare = own.startswith(("embeddings.", "encoder.", "pooler."))
        found[f"{prefix}{own}" if bare else own] = tensor
    return found


def _check_weights(
    parameters: Mapping[str, nn.Parameter], stored: Mapping[str, StoredTensor], source: Source
) -> set[str]:
    """Return the names that stay as drawn: those of a head that is not there in this shape."""
    shapes = {name: tuple(whole_shape(parameter)) for name, parameter in parameters.items()}
    odd = {
        name for name, shape in shapes.items() if name not in stored or stored[name].shape != shape
    }
    head = {name for name in shapes if name.startswith(_HEAD) or ".pooler." in name}
    wrong = sorted(odd - head)
    if wrong:
        there = stored.get(wrong[0])
        what = f"has the shape {list(there.shape)}" if there else "is not there"
        raise UserError(
            f"model.pretrained: {source.place}: {wrong[0]} {what}, and the model's has the shape "
            f"{list(shapes[wrong[0]])}; {len(wrong)} weights in all do not fit"
        )
    # a head goes as a whole: one half of another task's is of no use
    return {name for name in head if any(_part(name) == _part(each) for each in odd & head)}


def _part(name: str) -> str:
    return "pooler" if ".pooler." in name else "classifier"


def _told(
    source: Source,
    parameters: Mapping[str, nn.Parameter],
    stored: Mapping[str, StoredTensor],
    fresh: set[str],
) -> Iterable[str]:
    """Yield what was taken, what is new and what was left."""
    yield f"Begins from {source.place}: {len(parameters) - len(fresh)} weights of it"
    if fresh:
        yield f"  new, drawn from the seed: {_names(fresh)}"
    left = [name for name in stored if name not in parameters and not name.endswith("_ids")]
    if left:
        yield f"  left there: {_names(left)}"


def _names(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
