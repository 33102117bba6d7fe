"""RoBERTa and BERT are transformers' own, also where they begin from a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification

from alphadecay.modules import find_modules
from train.config import ModelConfig
from train.errors import UserError
from train.models import spec_of
from train.models.build import build_model
from train.models.pretrained import check_pretrained

LENGTH = 12
TINY = ModelConfig(
    vocab_size=41,
    hidden_size=16,
    intermediate_size=24,
    num_layers=2,
    num_heads=2,
    num_labels=3,
    rms_norm_eps=1e-5,
)
KINDS = ("roberta", "bert")


def tiny(kind: str, **more: object) -> ModelConfig:
    return replace(TINY, architecture=kind, **more)  # type: ignore[arg-type]


def saved(kind: str, folder: Path, **more: object) -> Path:
    """A classifier of the same shape from another seed, as transformers saves it."""
    build_model(tiny(kind, **more), LENGTH, seed=9).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_fill_does_not_change_the_outputs(kind):
    model = build_model(tiny(kind), LENGTH, seed=1).eval()
    spec = spec_of(tiny(kind))
    inputs = spec.inputs(tiny(kind), 2, 8)
    pad = model.config.pad_token_id
    longer = {
        name: torch.nn.functional.pad(value, (0, 4), value=pad if name == "input_ids" else 0)
        for name, value in inputs.items()
    }
    with torch.no_grad():
        torch.testing.assert_close(model(**longer).logits, model(**inputs).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_that_torch_counts(kind):
    model = tiny(kind, attention="eager")  # torch counts no kernel of a CPU's
    module = build_model(model, LENGTH, seed=1)
    with FlopCounterMode(display=False) as counter:
        module(**spec_of(model).inputs(model, 2, LENGTH)).logits.sum().backward()
    ours = spec_of(model).flops_per_token(model, LENGTH) * 2 * LENGTH
    assert ours == counter.get_total_flops()


@pytest.mark.parametrize("kind", KINDS)
def test_buffers_come_back_after_a_model_without_memory(kind):
    model = tiny(kind)
    whole = build_model(model, LENGTH, seed=1).eval()
    with torch.device("meta"):
        bare = spec_of(model).bare(spec_of(model).config(model, LENGTH))
    bare.to_empty(device="cpu")
    for buffer in bare.buffers():
        buffer.fill_(77)
    bare.load_state_dict(whole.state_dict())
    spec_of(model).restore_buffers(bare)
    inputs = spec_of(model).inputs(model, 2, LENGTH)
    inputs.pop("token_type_ids", None)  # so that the model takes its own
    with torch.no_grad():
        assert torch.equal(bare.eval()(**inputs).logits, whole(**inputs).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_is_no_module(kind):
    names = [module.name for module in find_modules(build_model(tiny(kind), LENGTH, seed=1))]
    assert not any(name.startswith("classifier") for name in names)
    assert sum(".layer." in name for name in names) == 2 * 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_s_weights_are_begun_from_and_its_head_too_where_it_fits(kind, tmp_path, capsys):
    folder = saved(kind, tmp_path / "m")
    found = build_model(tiny(kind, pretrained=str(folder)), LENGTH, seed=1)
    expected = AutoModelForSequenceClassification.from_pretrained(folder)
    for name, weight in expected.named_parameters():
        assert torch.equal(dict(found.named_parameters())[name], weight), name
    assert "new, drawn" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_encoder_gets_a_head_of_the_seed(kind, tmp_path, capsys):
    whole = build_model(tiny(kind), LENGTH, seed=9)
    whole.base_model.save_pretrained(tmp_path / "m")
    found = build_model(tiny(kind, pretrained=str(tmp_path / "m")), LENGTH, seed=1)
    drawn = dict(build_model(tiny(kind), LENGTH, seed=1).named_parameters())
    stored = dict(whole.named_parameters())
    for name, weight in found.named_parameters():
        origin = drawn if name.startswith("classifier") else stored
        assert torch.equal(weight, origin[name]), name
    assert "new, drawn from the seed: classifier." in capsys.readouterr().out


def test_a_head_of_other_classes_is_drawn_and_the_rest_is_told(tmp_path, capsys):
    folder = saved("roberta", tmp_path / "m", num_labels=5)
    found = build_model(tiny("roberta", pretrained=str(folder)), LENGTH, seed=1)
    drawn = build_model(tiny("roberta"), LENGTH, seed=1)
    assert torch.equal(found.classifier.dense.weight, drawn.classifier.dense.weight)
    assert found.classifier.out_proj.out_features == 3
    assert "classifier.out_proj.weight" in capsys.readouterr().out


def test_a_folder_of_another_shape_is_refused_with_the_keys(tmp_path):
    folder = saved("roberta", tmp_path / "m")
    check_pretrained(tiny("roberta", pretrained=str(folder)), LENGTH)
    with pytest.raises(
        UserError, match=r"hidden_size is 16 there and 32 here \(--model\.hidden_size 16\)"
    ):
        check_pretrained(tiny("roberta", pretrained=str(folder), hidden_size=32), LENGTH)
    with pytest.raises(UserError, match=r"--model\.max_positions 12"):
        check_pretrained(tiny("roberta", pretrained=str(folder)), 8)
    with pytest.raises(UserError, match=r"holds a roberta, and model\.architecture is bert"):
        check_pretrained(tiny("bert", pretrained=str(folder)), LENGTH)
    with pytest.raises(UserError, match="is no folder of a model"):
        check_pretrained(tiny("bert", pretrained=str(tmp_path)), LENGTH)


def test_a_folder_without_one_of_the_encoder_s_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = saved("roberta", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights.pop("roberta.encoder.layer.1.output.dense.weight")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"layer\.1\.output\.dense\.weight is not there"):
        build_model(tiny("roberta", pretrained=str(folder)), LENGTH, seed=1)
