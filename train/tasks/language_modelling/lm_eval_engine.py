"""A run's engine as lm-eval's model: all ranks share the questions, and each knows every answer.

Shapes: N questions, M rows of a micro batch, L tokens of a row, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lm_eval.api.model import TemplateLM
from torch import Tensor

from train.cluster.distributed import World
from train.data.tokenizers.load import AnyTokenizer
from train.engines.protocol import LogitsOf
from train.errors import UserError

ONLY_LIKELIHOODS = "a run asks for likelihoods of continuations, and for nothing else"
Request = tuple[tuple[str, str], list[int], list[int]]


class EngineModel(TemplateLM):  # type: ignore[misc]
    """Tells likelihoods. lm-eval sees one process on every rank, each with all the questions.

    Args:
        logits_of: from tokens [M, L], by name, to logits [M, L, V]; collective where weights are
            sharded.
        tokenizer: the run's.
        sequence_length: the longest row, L; of a longer text its end counts.
        micro_batch: rows per rank and forward pass, M.
        world: this rank.
    """

    def __init__(
        self,
        logits_of: LogitsOf,
        tokenizer: AnyTokenizer,
        sequence_length: int,
        micro_batch: int,
        world: World,
    ) -> None:
        super().__init__()
        self._logits_of = logits_of
        self._tokenizer = tokenizer
        self._length = sequence_length
        self._micro_batch = micro_batch
        self._world_of_run = world

    @property
    def eot_token_id(self) -> int:
        """Return the token that ends a document, after which one begins."""
        return self._tokenizer.eos_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Return the tokens of a text, and no special ones."""
        return list(self._tokenizer.encode([string])[0])

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Return of each continuation its log-likelihood and whether it is the likeliest text.

        Collective: every rank makes the same number of passes.
        """
        count = len(requests)
        world = self._world_of_run
        found_N2 = torch.zeros(count, 2, dtype=torch.float64, device=world.device)
        for start in range(0, count, self._micro_batch * world.size):
            first = start + world.rank * self._micro_batch
            # Past the end a row is run again and not counted, so that the ranks stay in step.
            index = [min(at, count - 1) for at in range(first, first + self._micro_batch)]
            answers = self._answers([requests[at] for at in index])
            counted = max(0, min(self._micro_batch, count - first))
            found_N2[first : first + counted] = answers[:counted]
        dist.all_reduce(found_N2)
        return [(likelihood, bool(greedy)) for likelihood, greedy in found_N2.tolist()]

    @torch.no_grad()
    def _answers(self, requests: list[Request]) -> Tensor:
        """Return log-likelihood and greediness of each request, float64 [M, 2]."""
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        tokens_ML = torch.full((len(rows), self._length), self.eot_token_id)
        for row, (tokens, _) in enumerate(rows):
            tokens_ML[row, : len(tokens)] = torch.tensor(tokens)
        logits_MLV = self._logits_of({"input_ids": tokens_ML.to(self._world_of_run.device)})
        answers = [
            _answer(logits_LV[len(tokens) - asked - 1 : len(tokens) - 1], tokens[-asked:])
            for logits_LV, (tokens, asked) in zip(logits_MLV, rows, strict=True)
        ]
        return torch.stack(answers)

    def _row(self, context: list[int], continuation: list[int]) -> tuple[list[int], int]:
        """Return the tokens of a row, and how many at its end are asked for."""
        asked = continuation[-(self._length - 1) :]
        tokens = [*context, *asked][-self._length :]
        return tokens, len(asked)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Refuse: `refuse_generation` lets no such task come here."""
        raise UserError(ONLY_LIKELIHOODS)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Refuse, as above."""
        raise UserError(ONLY_LIKELIHOODS)


def _answer(logits_AV: Tensor, asked: list[int]) -> Tensor:
    """Return summed log-likelihood, and whether each token is the likeliest, float64 [2]."""
    tokens_A = torch.tensor(asked, device=logits_AV.device)
    wide = logits_AV if logits_AV.dtype == torch.float64 else logits_AV.float()
    chosen = wide.log_softmax(-1).gather(1, tokens_A[:, None]).double().sum()
    greedy = (wide.argmax(-1) == tokens_A).all().double()
    return torch.stack([chosen, greedy])
