"""Which tokenizer a run gets, and whether it fits the model."""

from __future__ import annotations

import pytest

from train.data.tokenizers.load import check_vocab
from train.errors import UserError


def test_vocabulary_must_fit(tokenizer):
    check_vocab(tokenizer, tokenizer.size)
    check_vocab(tokenizer, 32000)
    with pytest.raises(
        UserError,
        match=r"small.model has 320 pieces but model.vocab_size is 319; "
        r"set model.vocab_size to at least 320",
    ):
        check_vocab(tokenizer, 319)
