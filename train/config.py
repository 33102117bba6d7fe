"""TrainConfig: every choice of a run, typed, in frozen sections; one YAML file plus dotted overrides fills it.

The recipe owns the model, batch, learning rate, decay and steps. The file named by `deepspeed.config` owns ZeRO.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """The LLaMA to build.

    Args:
        vocab_size: rows of the embedding and of the head; at least the tokenizer's number of pieces.
        hidden_size: width of the residual stream; divisible by num_heads.
        intermediate_size: width of the MLP.
        num_layers: decoder layers.
        num_heads: attention heads.
        num_kv_heads: key/value heads; 0 means as many as num_heads.
        rms_norm_eps: epsilon of RMSNorm.
        rope_theta: base of the rotary embedding.
        init_std: standard deviation of the normal initialisation.
        tie_embeddings: share the embedding with the head.
        attention: attention kernel of transformers.
        activation_checkpointing: recompute activations in the backward pass, to save memory.
        compile: torch.compile the model; the first steps take minutes, a compiler must be there.
        fused_cross_entropy: loss without the logits in memory, by liger-kernel; needs a CUDA GPU and the extra `liger`.
    """

    vocab_size: int = 32000
    hidden_size: int = 512
    intermediate_size: int = 1376
    num_layers: int = 8
    num_heads: int = 8
    num_kv_heads: int = 0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    init_std: float = 0.02
    tie_embeddings: bool = False
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    activation_checkpointing: bool = False
    compile: bool = False
    fused_cross_entropy: bool = False


# Fields of ModelConfig that change how the model is computed, not what it is: a run may go on with others.
HOW_IT_COMPUTES = ("activation_checkpointing", "attention", "compile", "fused_cross_entropy")


@dataclass(frozen=True)
class MixtureSource:
    """One source of a mixture.

    Args:
        name: of the source; also decides the order in which it is read.
        files: paths or globs of its training text, as data.files.
        weight: its share of the rows, relative to the other sources' weights.
        validation_files: as data.validation_files; empty holds out data.validation_fraction of its documents.
    """

    name: str
    files: tuple[str, ...]
    weight: float
    validation_files: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataConfig:
    """Where text comes from and how it becomes rows of tokens.

    Args:
        source: stdlib (the running Python's own library), files (see files), or c4 (allenai/c4, streamed from the hub).
        files: paths or globs of training text: C4-form .json.gz, .jsonl or .json (a `text` field a line), or .txt.
        validation_files: the same for validation; empty holds out validation_fraction of the documents.
        validation_fraction: share of documents held out when there are no validation files, in (0, 0.5].
        tokenizer: a SentencePiece .model file, or hf:NAME@REVISION or hf:FOLDER for a Hugging Face one; empty trains a SentencePiece
            model of model.vocab_size pieces on the corpus.
        directory: folder for prepared token files; they are reused when source and tokenizer are unchanged.
        sequence_length: tokens in a row.
        rows: packed (documents joined by end-of-sequence and cut into rows, no fill) or padded (one document a row, cut or filled).
        max_documents: stop preparing after this many training documents; 0 takes all.
        max_bad_fraction: stop preparing when more than this share of the rows had to be set aside.
        max_row_bytes: rows (lines, or whole .txt files) longer than this are set aside; 0 sets no limit.
        workers: processes that prepare; 0 means as many as cores. The result is the same with any number.
        mixture: several sources of files in shares, instead of files: a list of {name, files, weight, validation_files}.
    """

    source: Literal["stdlib", "files", "c4"] = "c4"
    files: tuple[str, ...] = ()
    validation_files: tuple[str, ...] = ()
    validation_fraction: float = 0.02
    tokenizer: str = ""
    directory: str = "data"
    sequence_length: int = 256
    rows: Literal["packed", "padded"] = "packed"
    max_documents: int = 0
    max_bad_fraction: float = 0.01
    max_row_bytes: int = 20_000_000
    workers: int = 0
    mixture: tuple[MixtureSource, ...] = ()


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning-rate schedule.

    Args:
        name: adamw (decoupled decay) or adam (L2 added to the gradient).
        lr: peak learning rate.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        eps: Adam's epsilon.
        weight_decay: the base decay, eta.
        grad_clip: largest global gradient norm; 0 clips nothing.
        schedule: cosine; linear; or wsd, which stays at lr and falls on a straight line at the end.
        warmup_steps: steps of linear warm-up from 0.
        min_lr_ratio: learning rate at the last step, as a share of lr.
        wsd_decay_share: share of all steps, the last ones, over which wsd falls, in (0, 1].
    """

    name: Literal["adamw", "adam"] = "adamw"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    schedule: Literal["cosine", "wsd", "linear"] = "cosine"
    warmup_steps: int = 1000
    min_lr_ratio: float = 0.1
    wsd_decay_share: float = 0.2


@dataclass(frozen=True)
class Ratio:
    """Modules of a fixed decay.

    Args:
        modules: shell pattern of weight names.
        ratio: their multiple of the base decay.
    """

    modules: str
    ratio: float


@dataclass(frozen=True)
class DecayConfig:
    """How weight decay is shared out over the modules.

    Args:
        method: alphadecay (per module, from its spectrum), uniform (the base decay everywhere) or none; awd (arXiv 2210.00094),
            adadecay (per module, as published with AlphaDecay) or adadecay_parameters (arXiv 1907.08931), from gradients; and to compare
            AlphaDecay with: farms (alpha free of the aspect ratio), inverted (the map upside down), shuffled (its decays dealt out at
            random), uniform_at_mean (its mean everywhere) and fixed_ratio (constants by module, see ratios).
        interval: optimizer steps between refreshes, not micro batches.
        s1: decay of the heaviest tail, as a multiple of the base decay.
        s2: decay of the lightest tail, as a multiple of the base decay.
        assign: map from alpha to decay: linear, sqrt or log2.
        tail: how alpha is fitted; hill is the paper's.
        estimator: gram (eigenvalues of the smaller Gram matrix) or svd.
        spread: optimizer steps over which a refresh is solved, and after which its decays hold; 0 does all at one step.
        compat: published reproduces the published code's deviations from the paper; empty follows the paper.
        awd_scale: of awd: its decay is this times the base decay times gradient norm over weight norm.
        seed: of shuffled.
        ratios: of fixed_ratio: a list of {modules, ratio}; the first whose pattern matches counts, and one must for every weight.
    """

    method: Literal[
        "alphadecay", "uniform", "none", "awd", "adadecay", "adadecay_parameters",
        "farms", "inverted", "shuffled", "uniform_at_mean", "fixed_ratio",
    ] = "alphadecay"  # fmt: skip
    interval: int = 500
    s1: float = 0.67
    s2: float = 5.0
    assign: Literal["linear", "sqrt", "log2"] = "linear"
    tail: Literal["hill", "goodness_of_fit", "fix_finger"] = "hill"
    estimator: Literal["gram", "svd"] = "gram"
    spread: int = 0
    compat: Literal["", "published"] = ""
    awd_scale: float = 100.0
    seed: int = 0
    ratios: tuple[Ratio, ...] = ()


@dataclass(frozen=True)
class RunConfig:
    """Length, batch and precision, and when to stop early.

    Args:
        steps: optimizer steps.
        global_batch: rows per optimizer step over all ranks.
        micro_batch: rows per rank and forward pass; global_batch must be a multiple of micro_batch x world size.
        precision: auto takes bf16 with float32 masters where the hardware has it, else float32.
        seed: seed of the initialisation and of the order of the data.
        max_hours: stop by itself, in time for a checkpoint, this long after the start of this process; 0 has no limit.
        max_skipped_steps: stop when so many steps in a row had a loss or gradient that is not finite; 0 never does.
        spike_sd: report a loss so many standard deviations above its running mean; 0 reports none.
    """

    steps: int = 10000
    global_batch: int = 512
    micro_batch: int = 16
    precision: Literal["auto", "bf16", "float32"] = "auto"
    seed: int = 42
    max_hours: float = 0.0
    max_skipped_steps: int = 10
    spike_sd: float = 6.0


@dataclass(frozen=True)
class EvalConfig:
    """Validation.

    Args:
        every: optimizer steps between validations; also before the first step and after the last.
        tokens: validation tokens used, at most; 0 uses all.
        micro_batch: rows per rank and forward pass; 0 means run.micro_batch.
        published_batch: rows of a batch, over all ranks, of the published code's figure, which depends on it; see train/evaluate.py.
    """

    every: int = 500
    tokens: int = 2_000_000
    micro_batch: int = 0
    published_batch: int = 512


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints.

    Args:
        every: optimizer steps between checkpoints; one more is written at the end. 0 writes only that one.
        keep: newest complete checkpoints kept; 0 keeps all.
        keep_every: checkpoints of steps that are a multiple of this are kept for good; 0 keeps none so.
        max_failures: saves that may fail in a row, the disk being full, before the run stops; the last save must not fail.
        convert: auto goes on from a checkpoint of another world size or ZeRO stage (1 to 3) by converting it; never refuses it.
    """

    every: int = 1000
    keep: int = 2
    keep_every: int = 0
    max_failures: int = 3
    convert: Literal["auto", "never"] = "auto"


@dataclass(frozen=True)
class DeepSpeedConfig:
    """The engine.

    Args:
        config: DeepSpeed JSON; it owns ZeRO, everything the recipe owns is "auto" there.
        timeout_minutes: limit of every collective.
    """

    config: str = "ds_configs/zero3.json"
    timeout_minutes: float = 30.0


@dataclass(frozen=True)
class LogConfig:
    """What is written while it runs.

    Args:
        every: optimizer steps between training lines in metrics.jsonl; the first and the last step have one too.
        wandb: also send metrics to Weights & Biases (WANDB_MODE=offline works).
        wandb_project: its project.
        tensorboard: also write metrics for TensorBoard, to output_dir/tensorboard.
        progress: auto draws a live bar on a terminal and plain lines elsewhere; off is silent.
        peak_tflops: TFLOP/s of one rank's device that MFU is stated against; auto is a known GPU's data sheet, else a matmul timed here.
        profile_from: first step of a torch.profiler trace of rank 0, written to output_dir; 0 traces nothing.
        profile_steps: steps of the trace.
    """

    every: int = 10
    wandb: bool = False
    wandb_project: str = "alphadecay"
    tensorboard: bool = False
    progress: Literal["auto", "bar", "lines", "off"] = "auto"
    peak_tflops: float | Literal["auto"] = "auto"
    profile_from: int = 0
    profile_steps: int = 3


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Args:
        name: name of the run.
        output_dir: folder of its results; empty means runs/<name>.
        resume: auto goes on from the last complete checkpoint in output_dir, never starts afresh, or a checkpoint's path.
        model: the LLaMA to build.
        data: where text comes from.
        optim: the optimizer and its schedule.
        decay: how weight decay is shared out.
        run: length, batch and precision.
        eval: validation.
        checkpoint: checkpoints.
        deepspeed: the engine.
        log: what is written while it runs.
    """

    name: str = "run"
    output_dir: str = ""
    resume: str = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    decay: DecayConfig = field(default_factory=DecayConfig)
    run: RunConfig = field(default_factory=RunConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    log: LogConfig = field(default_factory=LogConfig)
