"""Text from a trained model: `python -m train generate RUN_OR_CHECKPOINT_OR_EXPORT --prompt "def "
--tokens 100 --temperature 0.8 --top-p 0.95`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.errors import UserError, as_command
from train.export.latent import compute_as_trained
from train.system.device import uses_cuda
from train.system.environment import prepare_environment

DESCRIPTION = """
Go on from a prompt with a trained model, and print prompt and text. The checkpoint's float32
weights are used, on the GPU where there is one. By default each token is the likeliest one, so that
the text is the same every time. With --temperature tokens are drawn: the logits are divided by it,
the --top-k likeliest tokens are kept, then of these the smallest set of the likeliest whose
probabilities reach --top-p; one of what is left is drawn by its share. The same seed gives the same
text on the same device.
"""

Encode = Callable[[str], list[int]]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Sampling:
    """How each next token is chosen.

    Args:
        temperature: 0 takes the likeliest; else the logits are divided by it and a token is drawn.
        top_k: draw from this many likeliest tokens; 0 from all.
        top_p: draw from the smallest set of the likeliest tokens whose probabilities, after
            temperature and top_k, add up to at least this.
        seed: where the draws begin.

    Raises:
        UserError: a value out of range, or one that has no effect.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise UserError(f"--temperature {self.temperature}: needs 0 or more")
        if self.top_k < 0:
            raise UserError(f"--top-k {self.top_k}: needs 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p {self.top_p}: needs a share above 0, at most 1 (all tokens)")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: needs 0 or more")
        if not self.temperature and (self.top_k or self.top_p < 1):
            raise UserError(
                "--top-k and --top-p choose among tokens that are drawn, and temperature 0 takes "
                "the likeliest; add --temperature 1"
            )

    def options(self) -> dict[str, Any]:
        """Return the keywords of transformers' generate."""
        if not self.temperature:
            return {"do_sample": False}
        return {
            "do_sample": True,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
        }


GREEDY = Sampling()


def generate(
    source: Path, prompt: str, tokens: int, sampling: Sampling = GREEDY, tokenizer: str = ""
) -> str:
    """Return what the model writes after `prompt`.

    It is the same every time for the same seed, on the same device.

    Args:
        source: a run's folder, a checkpoint, or an exported folder.
        prompt: may be empty: then the text begins as a document does.
        tokens: written at most; the end of a document ends it sooner.
        sampling: how each token is chosen.
        tokenizer: a SentencePiece .model instead of the run's own.

    Raises:
        UserError: no model there, or a number out of range.
    """
    if tokens < 1:
        raise UserError(f"--tokens {tokens}: needs 1 or more")
    model, encode, decode = _open(source, tokenizer)
    model.to("cuda" if uses_cuda() else "cpu")
    end: int = model.config.eos_token_id
    ids = encode(prompt) or [end]
    longest = model.config.max_position_embeddings
    if len(ids) + tokens > longest and model.config.model_type == "gpt2":
        raise UserError(
            f"{len(ids)} + {tokens} tokens, and this gpt2 has positions for {longest}; give fewer "
            "--tokens or a shorter prompt"
        )
    if len(ids) + tokens > longest:
        print(
            f"note: {len(ids)} + {tokens} tokens is beyond the {longest} that the model was "
            "trained on",
            file=sys.stderr,
        )
    new = continue_ids(model, ids, tokens, sampling)
    # Decoded with the prompt: where a word goes on, the space before it is not to be lost.
    whole = decode([*ids, *(token for token in new if token != end)])
    before = decode(ids)
    return whole[len(before) :] if whole.startswith(before) else decode(new)


def continue_ids(
    model: Any, ids: Sequence[int], tokens: int, sampling: Sampling = GREEDY
) -> list[int]:
    """Return at most `tokens` tokens that the model (of transformers) writes after `ids`."""
    import torch

    torch.manual_seed(sampling.seed)
    prompt_1L = torch.tensor([list(ids)], device=model.device)
    with torch.no_grad():
        written_1L = model.generate(
            prompt_1L,
            attention_mask=torch.ones_like(prompt_1L),
            max_new_tokens=tokens,
            pad_token_id=model.config.eos_token_id,
            **sampling.options(),
        )
    new: list[int] = written_1L[0, len(ids) :].tolist()
    return new


def _open(source: Path, tokenizer: str) -> tuple[Any, Encode, Decode]:
    if (source / "config.json").is_file():
        return _open_export(source)
    import torch

    from train.export.trained import find_trained

    trained = find_trained(source, tokenizer, lambda text: print(text, file=sys.stderr))
    own = trained.tokenizer
    if own is None or not trained.writes_text:
        raise UserError(
            f"{source} holds a model of the architecture {trained.model.architecture}, which "
            "writes no text; name a language model"
        )
    return trained.load(torch.float32), lambda text: own.encode([text])[0], own.decode


def _open_export(source: Path) -> tuple[Any, Encode, Decode]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        fast: Any = AutoTokenizer.from_pretrained(source)
        model: Any = AutoModelForCausalLM.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"transformers cannot load {source}: {reason}") from error
    compute_as_trained(model)
    return model.eval(), lambda text: list(fast.encode(text)), lambda ids: str(fast.decode(ids))


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m train generate", description=DESCRIPTION)
    add = parser.add_argument
    add("source", type=Path, help="a run's folder, a checkpoint, or an exported folder")
    add("--prompt", default="", help="text to go on from; empty begins a document")
    add(
        "--tokens", type=int, default=100, metavar="N", help="tokens to write, at most; default 100"
    )
    add(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0 (the default) takes the likeliest token, 1 draws as the model says, less is bolder "
        "about the likely ones",
    )
    add(
        "--top-k",
        type=int,
        default=0,
        metavar="K",
        help="draw from the K likeliest tokens; default 0, all",
    )
    add(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="draw from the likeliest tokens that make up the share P; default 1, all",
    )
    add("--seed", type=int, default=0, help="where the draws begin; default 0")
    add(
        "--tokenizer",
        default="",
        metavar="FILE.model",
        help="instead of the one that the run keeps",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; a user's mistake is one message, not a
    traceback.
    """
    o = make_parser().parse_args(argv)
    prepare_environment()

    def work() -> None:
        sampling = Sampling(o.temperature, o.top_k, o.top_p, o.seed)
        print(o.prompt + generate(o.source, o.prompt, o.tokens, sampling, o.tokenizer))

    return as_command(work)
