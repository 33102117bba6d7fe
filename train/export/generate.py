"""Text from a trained model: `python -m train generate RUN_OR_CHECKPOINT_OR_EXPORT --prompt "def "
--tokens 100`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from train.errors import UserError, as_command
from train.system.device import uses_cuda
from train.system.environment import prepare_environment

Encode = Callable[[str], list[int]]
Decode = Callable[[Sequence[int]], str]


def generate(
    source: Path,
    prompt: str,
    tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    tokenizer: str = "",
) -> str:
    """What the model writes after `prompt`; the same every time for the same seed, on the same
    device.

    Args:
        source: a run's folder, a checkpoint, or an exported folder.
        prompt: may be empty: then the text begins as a document does.
        tokens: written at most; the end of a document ends it sooner.
        temperature: 0 takes the likeliest token each time; 1 samples from the model's own
            distribution.
        seed: of the sampling.
        tokenizer: a SentencePiece .model instead of the run's own.

    Raises:
        UserError: no model there, or a number out of range.
    """
    if tokens < 1 or temperature < 0 or seed < 0:
        raise UserError(
            f"--tokens {tokens}, --temperature {temperature}, --seed {seed}: needs tokens of at "
            "least 1, the others 0 or more"
        )
    import torch

    model, encode, decode = _open(source, tokenizer)
    device = "cuda" if uses_cuda() else "cpu"
    model.to(device)
    ids = encode(prompt) or [model.config.eos_token_id]
    longest = model.config.max_position_embeddings
    if len(ids) + tokens > longest:
        print(
            f"note: {len(ids)} + {tokens} tokens is beyond the {longest} that the model was "
            "trained on",
            file=sys.stderr,
        )
    how: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        if temperature
        else {"do_sample": False}
    )
    torch.manual_seed(seed)
    prompt_1L = torch.tensor([ids], device=device)
    with torch.no_grad():
        written_1L = model.generate(
            prompt_1L,
            attention_mask=torch.ones_like(prompt_1L),
            max_new_tokens=tokens,
            pad_token_id=model.config.eos_token_id,
            **how,
        )
    new = written_1L[0, len(ids) :].tolist()
    # Decoded with the prompt: where a word goes on, the space before it is not to be lost.
    whole = decode([*ids, *(id_ for id_ in new if id_ != model.config.eos_token_id)])
    before = decode(ids)
    return whole[len(before) :] if whole.startswith(before) else decode(new)


def _open(source: Path, tokenizer: str) -> tuple[Any, Encode, Decode]:
    import torch

    from train.export.trained import find_trained

    if (source / "config.json").is_file():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            fast: Any = AutoTokenizer.from_pretrained(source)
            model: Any = AutoModelForCausalLM.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise UserError(
                f"transformers cannot load {source}: {' '.join(str(error).split())}"
            ) from error
        return model.eval(), lambda text: list(fast.encode(text)), lambda ids: str(fast.decode(ids))
    trained = find_trained(source, tokenizer, lambda text: print(text, file=sys.stderr))
    own = trained.tokenizer
    return trained.load(torch.float32), lambda text: own.encode([text])[0], own.decode


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; a user's mistake is one message, not a traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m train generate", description="Text from a trained model."
    )
    parser.add_argument(
        "source", type=Path, help="a run's folder, a checkpoint, or an exported folder"
    )
    parser.add_argument("--prompt", default="", help="text to go on from; empty begins a document")
    parser.add_argument(
        "--tokens", type=int, default=100, help="tokens to write, at most; default 100"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0 (the default) takes the likeliest token, 1 samples",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the sampling; default 0")
    parser.add_argument(
        "--tokenizer",
        default="",
        metavar="FILE.model",
        help="instead of the one that the run keeps",
    )
    o = parser.parse_args(argv)
    prepare_environment()
    return as_command(
        lambda: print(
            o.prompt + generate(o.source, o.prompt, o.tokens, o.temperature, o.seed, o.tokenizer)
        )
    )
