"""Turns a SentencePiece model into a Hugging Face tokenizer that encodes and decodes alike and that
AutoTokenizer.from_pretrained loads.

Pieces have kinds (sentencepiece_model.proto): normal ones and the model's own symbols match text;
unknown, control and byte pieces never do, even where the text spells them. Byte-pair models come
out exact. Of a unigram model about one document in a thousand is cut otherwise somewhere, where two
ways are likely alike: SentencePiece adds up in 32 bits, tokenizers in 64.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from train.data.tokenizers.huggingface import HuggingFaceTokenizer
from train.data.tokenizers.load import AnyTokenizer
from train.data.tokenizers.sentencepiece import SentencePieceTokenizer
from train.errors import UserError

_UNKNOWN = 2
_CONTROL = 3
_SYMBOL = 4
_BYTE = 6
_UNIGRAM = 1
_BPE = 2
_SPACE = "▁"  # how SentencePiece writes a space in a piece


def write_tokenizer(tokenizer: AnyTokenizer, folder: Path, longest: int) -> None:
    """Write tokenizer.json and tokenizer_config.json, and the SentencePiece model beside them.

    Args:
        tokenizer: the run's.
        longest: tokens of the longest text that the model was trained on.

    Raises:
        UserError: an algorithm that Hugging Face tokenizers lack (word and char models).
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        tokenizer.save(folder)
        return
    from transformers import PreTrainedTokenizerFast

    proto = _proto(tokenizer)
    spec = proto.trainer_spec
    of_id = {
        id_: proto.pieces[id_].piece
        for id_ in (spec.bos_id, spec.eos_id, spec.pad_id)
        if 0 <= id_ < len(proto.pieces)
    }
    named = {
        "bos_token": of_id.get(spec.bos_id),
        "eos_token": of_id.get(spec.eos_id),
        "pad_token": of_id.get(spec.pad_id),
    }
    fast = PreTrainedTokenizerFast(
        tokenizer_object=_convert(proto, tokenizer.path),
        unk_token=spec.unk_piece,
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,  # "</s>" in a text is text, as it was in training
        **{name: piece for name, piece in named.items() if piece is not None},
    )
    fast.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(tokenizer.model_bytes)


def _proto(tokenizer: SentencePieceTokenizer) -> Any:
    from sentencepiece import sentencepiece_model_pb2 as descriptions

    proto: Any = getattr(descriptions, "ModelProto")()  # noqa: B009 - made when it is imported, which type checkers cannot see
    proto.ParseFromString(tokenizer.model_bytes)
    return proto


def _convert(proto: Any, path: Path) -> Any:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Fast

    kind = proto.trainer_spec.model_type
    if kind not in (_UNIGRAM, _BPE):
        raise UserError(
            f"{path} is neither a unigram nor a BPE model; Hugging Face tokenizers have nothing "
            "that encodes like it"
        )
    fast = Fast(_unigram(proto) if kind == _UNIGRAM else _bpe(proto))
    fast.normalizer = _normalizer(proto)
    if kind == _UNIGRAM:
        fast.pre_tokenizer = _words(proto)
    fast.decoder = _decoder(proto)
    # A model's own symbols are cut out of the text first; control pieces only get their names.
    fast.add_tokens(
        [AddedToken(p.piece, normalized=False) for p in proto.pieces if p.type == _SYMBOL]
    )
    fast.add_special_tokens(
        [
            AddedToken(p.piece, normalized=False, special=True)
            for p in proto.pieces
            if p.type == _CONTROL
        ]
    )
    return fast


def _unigram(proto: Any) -> Any:
    from tokenizers.models import Unigram

    return Unigram(
        [(p.piece, p.score) for p in proto.pieces],
        unk_id=_unknown(proto),
        byte_fallback=proto.trainer_spec.byte_fallback,
    )


def _words(proto: Any) -> Any:
    """Say where a text may be cut before the unigram model sees it.

    These places are spaces, which no piece crosses, and the inside of whatever spells a piece that
    must not match text: this model has no kinds of pieces.
    """
    from tokenizers import Regex, pre_tokenizers

    spelt = [p.piece for p in proto.pieces if p.type in (_UNKNOWN, _CONTROL) and len(p.piece) > 1]
    inside = [f"{re.escape(piece[0])}(?={re.escape(piece[1:])})" for piece in spelt]
    if proto.trainer_spec.byte_fallback:
        inside.append("<(?=0x[0-9A-F]{2}>)")
    spaces = (
        [pre_tokenizers.Split(_SPACE, "merged_with_next")]
        if proto.trainer_spec.split_by_whitespace
        else []
    )
    return pre_tokenizers.Sequence(
        [*spaces, pre_tokenizers.Split(Regex("|".join(inside)), "merged_with_previous")]
    )


def _bpe(proto: Any) -> Any:
    """Find every way to join two pieces into a third, best score first; only pieces that may match
    text take part.
    """
    from tokenizers.models import BPE

    scores = {
        p.piece: p.score for p in proto.pieces if p.type not in (_UNKNOWN, _CONTROL, _SYMBOL, _BYTE)
    }
    merges = [
        (piece[:i], piece[i:])
        for piece in scores
        for i in range(1, len(piece))
        if piece[:i] in scores and piece[i:] in scores
    ]
    merges.sort(key=lambda pair: -scores[pair[0] + pair[1]])
    vocab = {p.piece: id_ for id_, p in enumerate(proto.pieces)}
    unknown = proto.pieces[_unknown(proto)].piece
    return BPE(
        vocab=vocab,
        merges=merges,
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=proto.trainer_spec.byte_fallback,
    )


def _unknown(proto: Any) -> int:
    return next(id_ for id_, piece in enumerate(proto.pieces) if piece.type == _UNKNOWN)


def _normalizer(proto: Any) -> Any:
    from tokenizers import Regex, normalizers

    spec = proto.normalizer_spec
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [
            normalizers.Replace(Regex(r"\A +| +\z"), ""),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    if spec.escape_whitespaces:
        steps.append(normalizers.Replace(" ", _SPACE))
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(_SPACE))
    return normalizers.Sequence(steps)


def _decoder(proto: Any) -> Any:
    from tokenizers import Regex, decoders

    steps: list[Any] = [
        decoders.Replace(proto.trainer_spec.unk_piece, proto.trainer_spec.unk_surface)
    ]
    if proto.trainer_spec.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Replace(Regex(rf"\A{_SPACE}"), ""))
    return decoders.Sequence([*steps, decoders.Replace(_SPACE, " ")])
