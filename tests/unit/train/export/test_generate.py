"""Tokens are drawn from the set that top-k and top-p leave, in the shares that the model gives."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from train.export.generate import GREEDY, Sampling, continue_ids, main

VOCABULARY = 12
PROMPT = [3, 1, 4]
DRAWS = 4000


@pytest.fixture(scope="module")
def model():
    """A LLaMA of one layer whose next token is far from certain and no two tokens are as likely."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    toy = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        toy.lm_head.weight.normal_(0, 0.3)
    return toy


def shares(model, temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """Return token -> probability of being drawn, by hand in float64."""
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0, -1].double() / temperature
    order = logits.argsort(descending=True).tolist()
    order = order[:top_k] if top_k else order
    weights = logits[order].softmax(0).tolist()
    before = [0.0, *itertools.accumulate(weights)]
    kept = [token for token, mass in zip(order, before, strict=False) if mass < top_p]
    total = sum(weights[: len(kept)])
    return {token: weights[place] / total for place, token in enumerate(kept)}


def draw(model, sampling: Sampling) -> Counter[int]:
    """Draw the next token many times, as `continue_ids` does once."""
    torch.manual_seed(sampling.seed)
    prompts = torch.tensor([PROMPT] * DRAWS)
    written = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=1,
        pad_token_id=0,
        **sampling.options(),
    )
    return Counter(written[:, -1].tolist())


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "size"),
    [
        (1.0, 0, 1.0, VOCABULARY),
        (1.0, 3, 1.0, 3),
        (1.0, 1, 1.0, 1),
        (1.0, 0, 0.5, None),
        (0.5, 0, 0.5, None),
        (1.5, 6, 0.7, None),
        (1.0, VOCABULARY + 5, 1e-6, 1),
    ],
)
def test_drawn_tokens_have_the_right_support_and_shares(model, temperature, top_k, top_p, size):
    expected = shares(model, temperature, top_k, top_p)
    assert len(expected) == size if size else 1 < len(expected) < VOCABULARY
    counts = draw(model, Sampling(temperature, top_k, top_p))
    assert set(counts) == set(expected)
    for token, share in expected.items():
        # five standard deviations of a binomial count
        reach = 5 * math.sqrt(DRAWS * share * (1 - share))
        assert abs(counts[token] - DRAWS * share) <= reach, token


def test_the_support_shrinks_with_each_choice(model):
    """The cases above differ: by hand, each choice leaves out tokens that another keeps."""
    sizes = [len(shares(model, *choice)) for choice in ((1, 0, 1), (1, 0, 0.5), (0.5, 0, 0.5))]
    assert sizes[0] > sizes[1] > sizes[2] >= 1


def test_text_is_drawn_so_too(model):
    sampling = Sampling(1.0, top_k=4, top_p=0.8)
    expected = shares(model, 1.0, 4, 0.8)
    seeds = range(40)
    drawn = [
        continue_ids(model, PROMPT, 1, replace(sampling, seed=seed))[0] for seed in (*seeds, *seeds)
    ]
    assert drawn[:40] == drawn[40:] and set(drawn) == set(expected)


def test_without_a_temperature_it_is_the_likeliest(model):
    (likeliest,) = shares(model, 1.0, 1, 1.0)
    assert continue_ids(model, PROMPT, 1, GREEDY) == [likeliest]
    assert continue_ids(model, PROMPT, 5) == continue_ids(model, PROMPT, 5, Sampling(seed=9))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tokens", "0"], "--tokens 0: needs 1 or more"),
        (["--temperature", "-1"], "--temperature -1.0: needs 0 or more"),
        (["--temperature", "nan"], "--temperature nan: needs 0 or more"),
        (["--temperature", "1", "--top-k", "-1"], "--top-k -1: needs 0"),
        (["--temperature", "1", "--top-p", "0"], "--top-p 0.0: needs a share above 0"),
        (["--temperature", "1", "--top-p", "1.1"], "--top-p 1.1: needs a share above 0"),
        (["--seed", "-1"], "--seed -1: needs 0 or more"),
        (["--top-k", "5"], "add --temperature 1"),
        (["--top-p", "0.9"], "add --temperature 1"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, capsys, options, words):
    assert main([str(tmp_path), *options]) == 2
    assert words in capsys.readouterr().err


def test_the_help_says_what_it_does(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Go on from a prompt" in text
    assert "The same seed gives the same text" in text
    for option in ("--top-k", "--top-p", "--temperature", "--seed"):
        assert option in text
