"""The output head is no module, whatever it is called and whatever wraps it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from alphadecay.modules import choose_modules, find_modules

VOCABULARY = 1000


class Model(nn.Module):
    """An embedding, a linear layer, and a head of any name behind them."""

    def __init__(self, head: str, outputs: int = VOCABULARY) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, 64)
        self.inner = nn.Linear(64, 64, bias=False)
        setattr(self, head, nn.Linear(64, outputs, bias=False))


def names(model: nn.Module) -> list[str]:
    return [module.name for module in find_modules(model)]


@pytest.mark.parametrize("head", ["lm_head", "output", "to_logits", "unembed", "final"])
def test_any_name(head: str) -> None:
    assert names(Model(head)) == ["inner.weight"]


def test_tied_to_the_embedding_before_or_after() -> None:
    model = Model("output")
    model.output.weight = model.tokens.weight
    assert names(model) == ["inner.weight"]


@pytest.mark.parametrize("wrap", [torch.compile, checkpoint_wrapper])
@pytest.mark.parametrize("head", ["lm_head", "output"])
def test_wrapped_alone(head: str, wrap: object) -> None:
    model = Model(head)
    setattr(model, head, wrap(getattr(model, head)))  # type: ignore[operator]
    assert names(model) == ["inner.weight"]


def test_the_copy_that_peft_trains() -> None:
    class ModulesToSaveWrapper(nn.Module):
        def __init__(self, layer: nn.Linear) -> None:
            super().__init__()
            self.original_module = layer.requires_grad_(False)
            copy = nn.Linear(layer.in_features, layer.out_features, bias=False)
            self.modules_to_save = nn.ModuleDict({"default": copy})

    model = Model("lm_head")
    model.lm_head = ModulesToSaveWrapper(model.lm_head)
    assert names(model) == ["inner.weight"]


@pytest.mark.parametrize("getter", ["get_output_embeddings", "get_classifier"])
def test_what_the_model_itself_gives(getter: str) -> None:
    model = Model("decide", outputs=10)
    setattr(model, getter, lambda: model.decide)
    assert names(model) == ["inner.weight"]


def test_classes_that_the_model_counts() -> None:
    model = Model("decide", outputs=10)
    model.num_classes = 10
    assert names(model) == ["inner.weight"]


def test_a_position_embedding_as_wide_as_a_layer_makes_no_head() -> None:
    model = Model("down", outputs=64)
    model.positions = nn.Embedding(64, 64)
    assert names(model) == ["inner.weight", "down.weight"]
    assert choose_modules(model).warnings == ()


def test_a_last_linear_that_is_the_widest_is_warned_of() -> None:
    (warning,) = choose_modules(Model("decide", outputs=300)).warnings
    assert "decide.weight [300, 64] is the last linear weight and the widest" in warning
    assert "exclude=['decide.weight']" in warning


def test_a_head_before_the_layers_is_warned_of() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.predict = nn.Linear(64, VOCABULARY, bias=False)
            self.tokens = nn.Embedding(VOCABULARY, 64)
            self.inner = nn.Linear(64, 64, bias=False)

    (warning,) = choose_modules(Early()).warnings
    assert "predict.weight [1000, 64] is as wide as the vocabulary" in warning
    assert "exclude=['predict.weight']" in warning


def test_heads_for_several_tokens() -> None:
    model = Model("last")
    model.last = nn.Linear(64, 64, bias=False)
    model.heads = nn.ModuleList([nn.Linear(64, VOCABULARY, bias=False) for _ in range(3)])
    assert names(model) == ["inner.weight", "last.weight"]
    assert choose_modules(model).warnings == ()
