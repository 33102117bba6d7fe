"""Settings that say what the model is, and how it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from train.config.ranges import at_least, greater_than, within


@dataclass(frozen=True)
class ModelConfig:
    """The model to build.

    Args:
        architecture: its kind; a file of train/models: llama, qwen3 (llama with norms on queries
            and keys), gpt2 (learned positions, biases, one matrix for queries, keys and values),
            vit (images, for task image_classification), roberta or bert (encoders of text, for
            tasks text_classification and text_regression).
        vocab_size: rows of the embedding and of the head; at least the tokenizer's number of
            pieces.
        hidden_size: width of the residual stream; divisible by num_heads.
        intermediate_size: width of the MLP.
        num_layers: decoder layers.
        num_heads: attention heads.
        num_kv_heads: key/value heads; 0 means as many as num_heads.
        rms_norm_eps: epsilon of RMSNorm, or of LayerNorm where the architecture has that.
        rope_theta: base of the rotary embedding; gpt2 has none.
        image_size: of vit: side of the square image in pixels.
        patch_size: of vit: side of a patch; divides image_size.
        drop_path: of vit: probability that a row skips a branch of the last layer (arXiv
            1603.09382); it grows on a straight line from 0 at the first.
        num_labels: classes of a classifier's head; 1 in a regression.
        dropout: of roberta and bert: probability that an activation or an attention is dropped.
        max_positions: of roberta and bert: positions that have an embedding; 0 means as many as a
            row has.
        pretrained: of roberta and bert: a Hugging Face folder whose weights the training begins
            from, with a new head; the sizes here must be its own.
        init_std: standard deviation of the normal initialisation.
        tie_embeddings: share the embedding with the head.
        qk_norm: a norm on each head's queries and keys, which keeps attention's logits from growing
            (arXiv 2309.14322): llama with it is qwen3's layer, and qwen3 always has it.
        quantize: b158-mean and b158-median have every matrix of the decoder layers compute with
            weights of -1, 0 and 1 times a scale, the mean or the median of their absolute values,
            and with inputs of 8 bits (BitNet b1.58, arXiv 2402.17764, 2407.09527); what is trained,
            decayed, measured and saved are the weights behind them. Not for gpt2.
        attention: attention kernel of transformers.
        activation_checkpointing: recompute activations in the backward pass, to save memory.
        compile: compile each decoder layer with torch.compile, which takes seconds in the first
            step; auto does on CUDA where there is a compiler.
        fused_cross_entropy: compute the loss without the logits in memory; liger by liger-kernel
            (CUDA, the extra `liger`), chunked in torch's own parts, true by either; auto is true on
            CUDA, else false.
    """

    architecture: Literal["llama", "qwen3", "gpt2", "vit", "roberta", "bert"] = "llama"
    vocab_size: Annotated[int, at_least(1)] = 32000
    hidden_size: Annotated[int, at_least(1)] = 512
    intermediate_size: Annotated[int, at_least(1)] = 1376
    num_layers: Annotated[int, at_least(1)] = 8
    num_heads: Annotated[int, at_least(1)] = 8
    num_kv_heads: Annotated[int, at_least(0)] = 0
    rms_norm_eps: Annotated[float, greater_than(0)] = 1e-6
    rope_theta: Annotated[float, greater_than(0)] = 10000.0
    image_size: Annotated[int, at_least(1)] = 224
    patch_size: Annotated[int, at_least(1)] = 16
    drop_path: Annotated[float, within(0, 1, high_open=True)] = 0.0
    num_labels: Annotated[int, at_least(1)] = 1000
    dropout: Annotated[float, within(0, 1, high_open=True)] = 0.0
    max_positions: Annotated[int, at_least(0)] = 0
    pretrained: str = ""
    init_std: Annotated[float, greater_than(0)] = 0.02
    tie_embeddings: bool = False
    qk_norm: bool = False
    quantize: Literal["none", "b158-mean", "b158-median"] = "none"
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    activation_checkpointing: bool = False
    compile: bool | Literal["auto"] = "auto"
    fused_cross_entropy: bool | Literal["auto", "liger", "chunked"] = "auto"


# Fields of ModelConfig that change how the model is computed, not what it is: a run may go on with
# others.
HOW_IT_COMPUTES = ("activation_checkpointing", "attention", "compile", "fused_cross_entropy")
