"""The weights of known architectures, by arithmetic from a Hugging Face config.json.

Names and shapes are those of transformers 5: what a run of that model has. H hidden size, I inner
size of the MLP, V vocabulary, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from alphadecay.inspect.errors import InspectError

# of which every module is a whole weight, so that it takes no layers to find them
OF_WHOLE_WEIGHTS = frozenset({"llama", "mistral", "qwen2", "qwen3", "bert", "roberta", "vit"})


class Shape(NamedTuple):
    """A weight without values.

    name: in the model.
    shape: of the parameter.
    linear: it is a linear layer's, and no head's.
    """

    name: str
    shape: tuple[int, ...]
    linear: bool = False


class Config:
    """A model's configuration; a key that is needed and not there is named.

    Args:
        values: of config.json.
        where: what it is called in messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def count(self, key: str, default: int | None = None) -> int:
        """Return a count.

        Raises:
            InspectError: it is not there and has no default, or is no number of at least 1.
        """
        value = self.values.get(key)
        value = default if value is None else value
        if value is None:
            raise InspectError(f"{self.where}: no {key!r}, which tells the shapes; add it")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InspectError(f"{self.where}: {key} is {value!r}, must be a whole number above 0")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return a yes or no."""
        value = self.values.get(key)
        return default if value is None else bool(value)


def weights_of(values: Mapping[str, Any], where: str) -> list[Shape]:
    """Return a configuration's weights in the model's order, tied ones once.

    Args:
        values: of config.json.
        where: what it is called in messages.

    Raises:
        InspectError: an architecture that is not known, or a key that is missing or no count.
    """
    kind = str(values.get("model_type"))
    if kind not in ARCHITECTURES:
        raise InspectError(
            f"{where}: model_type is {kind}; known are {', '.join(ARCHITECTURES)}. For another "
            "model name the folder of its safetensors, whose headers have the shapes"
        )
    return list(ARCHITECTURES[kind](Config(values, where)))


# -- LLaMA and what has grown from it


def _decoder(c: Config) -> Iterator[Shape]:
    """LLaMA, Mistral, Qwen 2 and 3, Mixtral, gpt-oss and Phi-3."""
    hidden = c.count("hidden_size")
    yield Shape("model.embed_tokens.weight", (c.count("vocab_size"), hidden))
    for index in range(c.count("num_hidden_layers")):
        layer = f"model.layers.{index}"
        yield from _attention(c, f"{layer}.self_attn", hidden)
        yield from _mlp(c, f"{layer}.mlp", hidden)
        yield Shape(f"{layer}.input_layernorm.weight", (hidden,))
        yield Shape(f"{layer}.post_attention_layernorm.weight", (hidden,))
    yield Shape("model.norm.weight", (hidden,))
    if not c.flag("tie_word_embeddings", False):
        yield Shape("lm_head.weight", (c.count("vocab_size"), hidden))


def _attention(c: Config, path: str, hidden: int) -> Iterator[Shape]:
    family = c.values["model_type"]
    heads = c.count("num_attention_heads")
    size = c.count("head_dim", _HEAD_SIZES.get(family, hidden // heads))
    outputs = heads * size
    keys = c.count("num_key_value_heads", heads) * size
    biased = c.flag("attention_bias", family == "gpt_oss")
    if family == "phi3":
        yield Shape(f"{path}.qkv_proj.weight", (outputs + 2 * keys, hidden))
    else:
        inputs_biased = biased or family == "qwen2"
        yield from _linear(f"{path}.q_proj", outputs, hidden, inputs_biased)
        yield from _linear(f"{path}.k_proj", keys, hidden, inputs_biased)
        yield from _linear(f"{path}.v_proj", keys, hidden, inputs_biased)
    yield from _linear(f"{path}.o_proj", hidden, outputs, biased and family != "qwen2")
    if family in ("qwen3", "qwen3_moe"):
        yield Shape(f"{path}.q_norm.weight", (size,))
        yield Shape(f"{path}.k_norm.weight", (size,))
    if family == "gpt_oss":
        yield Shape(f"{path}.sinks", (heads,))


def _mlp(c: Config, path: str, hidden: int) -> Iterator[Shape]:
    family = c.values["model_type"]
    if family in _EXPERT_SIZES:
        yield from _experts(c, path, hidden)
        return
    inner = c.count("intermediate_size")
    biased = c.flag("mlp_bias", False)
    if family == "phi3":
        yield Shape(f"{path}.gate_up_proj.weight", (2 * inner, hidden))
    else:
        yield from _linear(f"{path}.gate_proj", inner, hidden, biased)
        yield from _linear(f"{path}.up_proj", inner, hidden, biased)
    yield from _linear(f"{path}.down_proj", hidden, inner, biased)


def _experts(c: Config, path: str, hidden: int) -> Iterator[Shape]:
    """Yield a router and stacks of experts, of every layer alike."""
    family = c.values["model_type"]
    if c.values.get("mlp_only_layers") or c.values.get("decoder_sparse_step", 1) != 1:
        raise InspectError(
            f"{c.where}: its layers with experts and without take turns, which this version does "
            "not reckon; name the folder of its safetensors"
        )
    count = c.count("num_local_experts", c.values.get("num_experts"))
    inner = c.count(_EXPERT_SIZES[family])
    router = f"{path}.router" if family == "gpt_oss" else f"{path}.gate"
    yield Shape(f"{router}.weight", (count, hidden))
    if family != "gpt_oss":
        yield Shape(f"{path}.experts.gate_up_proj", (count, 2 * inner, hidden))
        yield Shape(f"{path}.experts.down_proj", (count, hidden, inner))
        return
    yield Shape(f"{router}.bias", (count,))
    yield Shape(f"{path}.experts.gate_up_proj", (count, hidden, 2 * inner))
    yield Shape(f"{path}.experts.gate_up_proj_bias", (count, 2 * inner))
    yield Shape(f"{path}.experts.down_proj", (count, inner, hidden))
    yield Shape(f"{path}.experts.down_proj_bias", (count, hidden))


# head_dim where the configuration is silent, of those for which it is not hidden size / heads
_HEAD_SIZES = {"qwen3": 128, "gpt_oss": 64}
_EXPERT_SIZES = {
    "mixtral": "intermediate_size",
    "qwen3_moe": "moe_intermediate_size",
    "gpt_oss": "intermediate_size",
}


# -- GPT-2 and GPT-NeoX


def _gpt2(c: Config) -> Iterator[Shape]:
    hidden = c.count("n_embd")
    inner = c.count("n_inner", 4 * hidden)
    yield Shape("transformer.wte.weight", (c.count("vocab_size"), hidden))
    yield Shape("transformer.wpe.weight", (c.count("n_positions"), hidden))
    for index in range(c.count("n_layer")):
        layer = f"transformer.h.{index}"
        yield from _norm(f"{layer}.ln_1", hidden)
        yield from _norm(f"{layer}.ln_2", hidden)
        for name, inputs, outputs in (
            ("attn.c_attn", hidden, 3 * hidden),
            ("attn.c_proj", hidden, hidden),
            ("mlp.c_fc", hidden, inner),
            ("mlp.c_proj", inner, hidden),
        ):
            yield Shape(f"{layer}.{name}.weight", (inputs, outputs))
            yield Shape(f"{layer}.{name}.bias", (outputs,))
    yield from _norm("transformer.ln_f", hidden)
    if not c.flag("tie_word_embeddings", True):
        yield Shape("lm_head.weight", (c.count("vocab_size"), hidden))


def _gpt_neox(c: Config) -> Iterator[Shape]:
    hidden = c.count("hidden_size")
    inner = c.count("intermediate_size")
    vocabulary = c.count("vocab_size")
    biased = c.flag("attention_bias", True)
    yield Shape("gpt_neox.embed_in.weight", (vocabulary, hidden))
    for index in range(c.count("num_hidden_layers")):
        layer = f"gpt_neox.layers.{index}"
        yield from _norm(f"{layer}.input_layernorm", hidden)
        yield from _norm(f"{layer}.post_attention_layernorm", hidden)
        yield from _linear(f"{layer}.attention.query_key_value", 3 * hidden, hidden, biased)
        yield from _linear(f"{layer}.attention.dense", hidden, hidden, biased)
        yield from _linear(f"{layer}.mlp.dense_h_to_4h", inner, hidden, True)
        yield from _linear(f"{layer}.mlp.dense_4h_to_h", hidden, inner, True)
    yield from _norm("gpt_neox.final_layer_norm", hidden)
    if not c.flag("tie_word_embeddings", False):
        yield Shape("lm_head.weight", (vocabulary, hidden))


# -- encoders


def _bert(c: Config) -> Iterator[Shape]:
    """BERT and RoBERTa as masked language models."""
    family = c.values["model_type"]
    hidden = c.count("hidden_size")
    vocabulary = c.count("vocab_size")
    embeddings = f"{family}.embeddings"
    for name, rows in (
        ("word_embeddings", vocabulary),
        ("position_embeddings", c.count("max_position_embeddings")),
        ("token_type_embeddings", c.count("type_vocab_size")),
    ):
        yield Shape(f"{embeddings}.{name}.weight", (rows, hidden))
    yield from _norm(f"{embeddings}.LayerNorm", hidden)
    for index in range(c.count("num_hidden_layers")):
        yield from _bert_layer(f"{family}.encoder.layer.{index}", hidden, c)
    head = "lm_head" if family == "roberta" else "cls.predictions"
    yield Shape(f"{head}.bias", (vocabulary,))
    transform = head if family == "roberta" else f"{head}.transform"
    yield from _linear(f"{transform}.dense", hidden, hidden, True)
    norm = "layer_norm" if family == "roberta" else "LayerNorm"
    yield from _norm(f"{transform}.{norm}", hidden)
    if not c.flag("tie_word_embeddings", True):
        yield Shape(f"{head}.decoder.weight", (vocabulary, hidden))


def _bert_layer(path: str, hidden: int, c: Config) -> Iterator[Shape]:
    inner = c.count("intermediate_size")
    for part in ("query", "key", "value"):
        yield from _linear(f"{path}.attention.self.{part}", hidden, hidden, True)
    yield from _linear(f"{path}.attention.output.dense", hidden, hidden, True)
    yield from _norm(f"{path}.attention.output.LayerNorm", hidden)
    yield from _linear(f"{path}.intermediate.dense", inner, hidden, True)
    yield from _linear(f"{path}.output.dense", hidden, inner, True)
    yield from _norm(f"{path}.output.LayerNorm", hidden)


def _vit(c: Config) -> Iterator[Shape]:
    """ViT as a classifier."""
    hidden = c.count("hidden_size")
    inner = c.count("intermediate_size")
    channels = c.count("num_channels", 3)
    patch = c.count("patch_size", 16)
    places = (c.count("image_size", 224) // patch) ** 2 + 1
    yield Shape("vit.embeddings.cls_token", (1, 1, hidden))
    yield Shape("vit.embeddings.position_embeddings", (1, places, hidden))
    patches = "vit.embeddings.patch_embeddings.projection"
    yield Shape(f"{patches}.weight", (hidden, channels, patch, patch))
    yield Shape(f"{patches}.bias", (hidden,))
    for index in range(c.count("num_hidden_layers")):
        layer = f"vit.layers.{index}"
        for part in "qkv":
            biased = c.flag("qkv_bias", True)
            yield from _linear(f"{layer}.attention.{part}_proj", hidden, hidden, biased)
        yield from _linear(f"{layer}.attention.o_proj", hidden, hidden, True)
        yield from _norm(f"{layer}.layernorm_before", hidden)
        yield from _norm(f"{layer}.layernorm_after", hidden)
        yield from _linear(f"{layer}.mlp.fc1", inner, hidden, True)
        yield from _linear(f"{layer}.mlp.fc2", hidden, inner, True)
    yield from _norm("vit.layernorm", hidden)
    labels = c.values.get("id2label")
    classes = len(labels) if isinstance(labels, Mapping) else 2
    yield Shape("classifier.weight", (classes, hidden))
    yield Shape("classifier.bias", (classes,))


# -- parts of all


def _linear(path: str, outputs: int, inputs: int, biased: bool) -> Iterator[Shape]:
    yield Shape(f"{path}.weight", (outputs, inputs), linear=True)
    if biased:
        yield Shape(f"{path}.bias", (outputs,))


def _norm(path: str, width: int) -> Iterator[Shape]:
    yield Shape(f"{path}.weight", (width,))
    yield Shape(f"{path}.bias", (width,))


ARCHITECTURES: Mapping[str, Callable[[Config], Iterator[Shape]]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("llama", "mistral", "qwen2", "qwen3", "phi3", "mixtral", "qwen3_moe", "gpt_oss"),
            _decoder,
        ),
        "gpt2": _gpt2,
        "gpt_neox": _gpt_neox,
        "bert": _bert,
        "roberta": _bert,
        "vit": _vit,
    }
)
