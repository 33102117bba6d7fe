"""Rows and labels: what a model is shown, what it must predict, and that fill changes no loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from train.data.loading.memmap import TokenFile
from train.data.loading.rows import IGNORED, open_rows
from train.errors import UserError

EOS = 1


def test_packed_rows_join_documents(tmp_path, write_folder):
    rows = open_rows(
        TokenFile(write_folder(tmp_path / "p", [[5, 6], [7, 8, 9], [10]], [[2]]), "train"),
        4,
        "packed",
    )
    found = rows.read(np.arange(2))
    # the last eos fills no row
    assert found.tokens.tolist() == found.labels.tolist() == [[5, 6, EOS, 7], [8, 9, EOS, 10]]
    assert rows.real_tokens(np.arange(2)).tolist() == [4, 4]


def test_padded_rows_keep_eos_and_do_not_count_fill(tmp_path, write_folder):
    rows = open_rows(
        TokenFile(
            write_folder(tmp_path / "p", [[5, 6], [7, 8, 9], [10, 11, 12, 13]], [[2]]), "train"
        ),
        4,
        "padded",
    )
    found = rows.read(np.array([2, 0, 1]))
    assert found.tokens.tolist() == [[10, 11, 12, EOS], [5, 6, EOS, EOS], [7, 8, 9, EOS]]
    assert found.labels.tolist() == [[10, 11, 12, EOS], [5, 6, EOS, IGNORED], [7, 8, 9, EOS]]
    assert rows.real_tokens(np.array([2, 0, 1])).tolist() == [4, 3, 4]


@hypothesis_settings(deadline=None, max_examples=40)
@given(
    documents=st.lists(
        st.lists(st.integers(2, 400), min_size=1, max_size=20), min_size=1, max_size=12
    ),
    length=st.integers(2, 10),
)
def test_padded_rows_of_any_documents(tmp_path_factory, write_folder, documents, length):
    folder = write_folder(tmp_path_factory.mktemp("any") / "p", documents, [[2]])
    rows = open_rows(TokenFile(folder, "train"), length, "padded")
    found = rows.read(np.arange(len(rows)))
    assert len(rows) == len(documents)
    for document, tokens, labels, real in zip(
        documents, *found, rows.real_tokens(np.arange(len(rows))), strict=True
    ):
        expected = [*document[: length - 1], EOS]
        assert tokens[: len(expected)].tolist() == labels[: len(expected)].tolist() == expected
        assert len(expected) == real and (labels[len(expected) :] == IGNORED).all()


def test_fill_changes_no_loss(tmp_path, write_folder):
    """No attention mask is given: the mean over a filled batch is that of its documents one by one,
    each without fill.
    """
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    model = LlamaForCausalLM(LlamaConfig(vocab_size=60, max_position_embeddings=12, **sizes)).eval()
    documents = [[5, 6], [7, 8, 9, 40, 41, 42, 43], [10, 11, 12, 13]]
    found = open_rows(
        TokenFile(write_folder(tmp_path / "p", documents, [[2]]), "train"), 12, "padded"
    ).read(np.arange(3))
    with torch.no_grad():
        together = model(input_ids=found.tokens, labels=found.labels).loss
        alone = [
            model(input_ids=(ids := torch.tensor([[*document, EOS]])), labels=ids).loss
            * len(document)
            for document in documents
        ]
    # float32 sums in another order
    assert float(together) == pytest.approx(float(sum(alone)) / sum(map(len, documents)), rel=1e-6)


def test_no_document_at_all(tmp_path, write_folder):
    with pytest.raises(UserError, match="The train split has no document"):
        open_rows(TokenFile(write_folder(tmp_path / "p", [], [[2]]), "train"), 4, "padded")
