"""Which kernels a model is computed with, and what is refused by name."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace

import pytest

from train.config import ModelConfig
from train.errors import UserError
from train.models import kernels
from train.models.kernels import (
    check_machine,
    compiles_layers,
    loss_kernel,
    why_not_compiled,
)

TINY = ModelConfig(vocab_size=67, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2)


@pytest.fixture
def machine(monkeypatch):
    """Set what the machine has."""

    def has(compiler: bool = True, triton: bool = True, liger: bool = False) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++" if compiler else None)
        monkeypatch.setattr(kernels, "find_spec", lambda name: object() if triton else None)
        monkeypatch.setattr(kernels, "has_liger", lambda: liger)

    has()
    return has


def test_auto_is_for_gpus(machine):
    assert not compiles_layers(TINY, on_cuda=False)
    assert loss_kernel(TINY, on_cuda=False) == "plain"
    assert compiles_layers(TINY, on_cuda=True)
    assert loss_kernel(TINY, on_cuda=True) == "chunked"


def test_auto_compiles_only_where_it_can(machine):
    for missing in ({"compiler": False}, {"triton": False}):
        machine(**missing)
        assert not compiles_layers(TINY, on_cuda=True)


def test_a_gpu_without_a_compiler_is_told(machine, monkeypatch):
    monkeypatch.setattr(kernels, "uses_cuda", lambda: True)
    assert why_not_compiled(TINY) == ""
    machine(compiler=False)
    assert "no C++ compiler here" in why_not_compiled(TINY)
    assert why_not_compiled(replace(TINY, compile=False)) == ""
    machine(triton=False)
    assert "no triton here" in why_not_compiled(TINY)
    monkeypatch.setattr(kernels, "uses_cuda", lambda: False)
    assert why_not_compiled(TINY) == ""


def test_liger_is_taken_where_chunks_are_not_compiled(machine):
    machine(liger=True)
    assert loss_kernel(TINY, on_cuda=True) == "chunked"
    assert loss_kernel(replace(TINY, compile=False), on_cuda=True) == "liger"
    machine(liger=True, compiler=False)
    assert loss_kernel(TINY, on_cuda=True) == "liger"


def test_a_z_loss_is_computed_in_chunks(machine):
    machine(liger=True, compiler=False)
    for on_cuda in (False, True):
        assert loss_kernel(TINY, on_cuda, z_loss=1e-4) == "chunked"


@pytest.mark.parametrize("on_cuda", [False, True])
def test_a_choice_is_kept(machine, on_cuda):
    for wanted in ("liger", "chunked"):
        model = replace(TINY, fused_cross_entropy=wanted)
        assert loss_kernel(model, on_cuda) == wanted
    assert loss_kernel(replace(TINY, fused_cross_entropy=False), on_cuda) == "plain"
    assert loss_kernel(replace(TINY, fused_cross_entropy=True), on_cuda) == "chunked"
    for wanted in (False, True):
        assert compiles_layers(replace(TINY, compile=wanted), on_cuda) is wanted


def test_liger_needs_a_gpu_and_its_package(monkeypatch):
    wanted = replace(TINY, fused_cross_entropy="liger")
    monkeypatch.setattr("train.models.liger.uses_cuda", lambda: False)
    with pytest.raises(UserError, match=r"needs a CUDA GPU.*chunked does the same"):
        check_machine(wanted)
    monkeypatch.setattr("train.models.liger.uses_cuda", lambda: True)
    monkeypatch.setattr("train.models.liger.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"alphadecay\[liger\].*chunked does the same"):
        check_machine(wanted)


def test_compiling_needs_a_compiler(machine):
    machine(compiler=False)
    with pytest.raises(UserError, match="C\\+\\+ compiler"):
        check_machine(replace(TINY, compile=True))
    check_machine(TINY)


@pytest.mark.skipif(
    importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is installed"
)
def test_flash_attention_needs_its_package():
    with pytest.raises(UserError, match="flash-attn is not installed"):
        check_machine(replace(TINY, attention="flash_attention_2"))
