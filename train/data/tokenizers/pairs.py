"""Tokenizers of encoders: their own marks around a sentence or a pair of them.

They are transformers' fast tokenizers, from a folder or the hub, or trained here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from train.config.tokenizer_name import PREFIX, check_name
from train.errors import UserError

Form = Literal["roberta", "bert"]
_ROBERTA = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
_BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


class EncodedRow(NamedTuple):
    """The tokens of a sentence or a pair, marks included.

    Args:
        ids: of the tokens.
        types: 0 for those of the first sentence, 1 for those of the second; empty where the
            tokenizer tells no types.
    """

    ids: list[int]
    types: list[int]


class PairTokenizer:
    """A fast tokenizer of transformers and the facts the rest of the program needs.

    Args:
        fast: transformers' own.
        path: what it was loaded from.

    Attributes:
        size: one more than its largest id.
        pad_id: id of the fill.
        has_types: whether it tells the two sentences of a pair apart by types.
        sha256: hex digest of its definition.
    """

    def __init__(self, fast: Any, path: str) -> None:
        self.path = path
        self._fast = fast
        definition = fast.backend_tokenizer.to_str()
        self.sha256 = hashlib.sha256(definition.encode()).hexdigest()
        self.size: int = max(fast.get_vocab().values()) + 1
        self.pad_id: int = fast.pad_token_id
        self.has_types = "token_type_ids" in fast.model_input_names

    def encode(self, rows: Sequence[tuple[str, ...]], longest: int) -> list[EncodedRow]:
        """Return the tokens of each row's sentence or pair.

        Args:
            longest: tokens at most; what is longer is cut, of a pair the longer sentence first.
        """
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        encoded = self._fast(
            *([row[place] for row in rows] for place in range(len(rows[0]))),
            truncation="longest_first",
            max_length=longest,
            return_attention_mask=False,
            return_token_type_ids=self.has_types,
            split_special_tokens=True,  # "</s>" in a sentence is text, not the end of it
        )
        types = encoded.get("token_type_ids") or [[]] * len(rows)
        return [EncodedRow(*row) for row in zip(encoded["input_ids"], types, strict=True)]

    def save(self, folder: Path) -> None:
        """Write what AutoTokenizer, and `load_pair_tokenizer`, read."""
        self._fast.save_pretrained(folder)


def load_pair_tokenizer(name: str, key: str = "sentences.tokenizer") -> PairTokenizer:
    """Load `hf:NAME@REVISION` or `hf:FOLDER`. Code that comes with a tokenizer is never run.

    Args:
        key: the setting that names it, for messages.

    Raises:
        UserError: not pinned, not to be had, not a fast tokenizer, or with nothing to fill rows.
    """
    repository, revision = check_name(name if name.startswith(PREFIX) else PREFIX + name)
    try:
        from transformers import AutoTokenizer

        pinned: dict[str, Any] = {"revision": revision} if revision else {"local_files_only": True}
        fast: Any = AutoTokenizer.from_pretrained(repository, trust_remote_code=False, **pinned)
    except Exception as error:  # the hub's clients raise dozens of unrelated types
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise UserError(
            f"{key}: {name} has no tokenizer that can be loaded ({reason}); check the name, the "
            "revision and the network"
        ) from error
    if not getattr(fast, "is_fast", False):
        raise UserError(f"{key}: {name} has no fast form (tokenizer.json); name another")
    if fast.pad_token_id is None:
        raise UserError(f"{key}: {name} has no token that fills rows (pad_token); name another")
    return PairTokenizer(fast, name)


def train_pair_tokenizer(texts: Iterable[str], pieces: int, form: Form) -> PairTokenizer:
    """Train byte-pair pieces, with the marks that the form of a model expects.

    Args:
        texts: in a fixed order.
        pieces: at most, marks included.
        form: roberta puts <s> A </s></s> B </s>, bert [CLS] A [SEP] B [SEP] with types.

    Raises:
        UserError: fewer pieces than there are bytes and marks.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    marks = _ROBERTA if form == "roberta" else _BERT
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if pieces < len(alphabet) + len(marks):
        raise UserError(
            f"model.vocab_size is {pieces}, and a tokenizer of bytes has {len(alphabet)} and "
            f"{len(marks)} marks; set it to {len(alphabet) + len(marks)} or more, or name a "
            "tokenizer in sentences.tokenizer"
        )
    tokenizer = Tokenizer(models.BPE(unk_token=marks["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces,
        special_tokens=list(marks.values()),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = _template(tokenizer, form)
    names = ["input_ids", "attention_mask"]
    if form == "bert":
        names.insert(1, "token_type_ids")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=names,
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": mark for name, mark in marks.items()},
    )
    return PairTokenizer(fast, "trained on the sentences")


def _template(tokenizer: Any, form: Form) -> Any:
    """Return what puts the marks around sentences."""
    from tokenizers.processors import TemplateProcessing

    if form == "roberta":
        single, pair = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
        used = ("<s>", "</s>")
    else:
        single, pair = "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"
        used = ("[CLS]", "[SEP]")
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in used]
    return TemplateProcessing(single=single, pair=pair, special_tokens=marks)
