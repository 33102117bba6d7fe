"""Imports what the ranks of the tests need, once, in the server that they are forked from."""

from __future__ import annotations

import gc
import os
from importlib import import_module

# The program sets these before its imports, which are done here.
os.environ["DS_ACCELERATOR"] = "cpu"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")

MODULES = (
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.distributed.checkpoint",
    "transformers.models.llama.modeling_llama",
    # deepspeed.initialize imports these, and with them the compiler and setuptools
    "deepspeed.module_inject.auto_ep_layer",
    "deepspeed.ops.op_builder.all_ops",
    "deepspeed.runtime.superoffload.superoffload_stage3",
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "deepspeed.runtime.zero.muon.original_muon",
    "torch.utils.cpp_extension",
    "alphadecay",
    "train.config.command_line",
    "train.engines.deepspeed",
    "train.loop.build",
    "train.models.llama",
    "train.loop.trainer",
    "train.reporting.finish",
    # every rank imports the file of its function, and most of these import pytest
    "pytest",
)

for name in MODULES:
    import_module(name)
# What is there now stays: the ranks' collectors need not touch, and so copy, its pages.
gc.collect()
gc.freeze()
