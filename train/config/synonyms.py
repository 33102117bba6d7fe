"""The names that other programs give to our settings, for the hint beside an unknown key.

They are those of transformers' TrainingArguments and model configurations, nanoGPT, torchtitan,
DeepSpeed and PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Our section -> others' names of it.
_SECTIONS = {
    "model": "model_args network llm architecture",
    "data": "dataset datasets dataloader tokenizer preprocessing corpus",
    "loss": "criterion objective losses",
    "arithmetic": "modular modular_arithmetic",
    "optim": "optimizer optimiser optimization lr_scheduler scheduler opt sgd adam adamw",
    "decay": "alphadecay alpha_decay weight_decay_scheduler",
    "run": "train training trainer training_args training_arguments",
    "eval": "evaluation validation val test",
    "checkpoint": "checkpoints checkpointing ckpt saving save",
    "deepspeed": "zero zero_optimization ds parallelism fsdp",
    "log": "logging logger metrics wandb tracking profiling",
}

# Our settings -> others' names of them; a name may stand beside several.
_KEYS = {
    "name": "run_name experiment experiment_name exp_name job_name wandb_run_name",
    "output_dir": "out_dir output_path save_dir dump_folder logging_dir work_dir results_dir",
    "resume": "resume_from_checkpoint init_from load_checkpoint restore initial_load_path",
    "model.architecture": "model_type model_name flavor",
    "model.vocab_size": "n_vocab vocabulary_size vocab padded_vocab_size",
    "model.hidden_size": "n_embd d_model dim embed_dim embedding_size hidden_dim model_dim width",
    "model.intermediate_size": "d_ff ffn_dim ffn_hidden_size mlp_dim n_inner hidden_features",
    "model.num_layers": "num_hidden_layers n_layer n_layers layers depth num_decoder_layers",
    "model.num_heads": "num_attention_heads n_head n_heads heads",
    "model.num_kv_heads": "num_key_value_heads n_kv_head n_kv_heads num_query_groups",
    "model.rms_norm_eps": "norm_eps layer_norm_eps layer_norm_epsilon",
    "model.rope_theta": "rope_base rotary_base",
    "model.init_std": "initializer_range init_scale",
    "model.tie_embeddings": "tie_word_embeddings weight_tying enable_weight_tying",
    "model.qk_norm": "qk_layernorm use_qk_norm qk_layer_norm query_key_norm",
    "model.quantize": "quantization quantization_config bitnet bits",
    "model.attention": "attn_implementation attn_type attention_implementation flash_attention",
    "model.activation_checkpointing": "gradient_checkpointing activation_checkpoint recompute ac",
    "model.compile": "torch_compile",
    "model.fused_cross_entropy": "use_liger_kernel liger",
    "data.source": "dataset dataset_name",
    "data.files": "dataset dataset_name dataset_path data_path data_files train_file train_files",
    "data.validation_files": "validation_file eval_files val_files",
    "data.validation_fraction": "validation_split_percentage validation_split val_fraction",
    "data.tokenizer": "tokenizer_name tokenizer_path tokenizer_name_or_path hf_assets_path",
    "data.directory": "cache_dir data_dir data_root prepared_dir",
    "data.sequence_length": "seq_len seq_length block_size max_seq_len max_seq_length max_length "
    "context_length ctx_len max_position_embeddings",
    "data.rows": "packing pack group_texts",
    "data.max_documents": "max_train_samples num_documents limit",
    "data.workers": "num_workers num_proc preprocessing_num_workers dataloader_num_workers",
    "loss.z_loss": "z_loss_coefficient z_loss_weight z_loss_multiplier lse_square_scale",
    "optim.name": "optim optimizer optimizer_type",
    "optim.lr": "learning_rate max_lr peak_lr base_lr lr_max",
    "optim.beta1": "adam_beta1 b1 betas",
    "optim.beta2": "adam_beta2 b2 betas",
    "optim.eps": "adam_epsilon epsilon adam_eps",
    "optim.weight_decay": "wd base_decay lambda",
    "optim.grad_clip": "max_grad_norm max_norm gradient_clipping clip_grad clip_grad_norm clip",
    "optim.schedule": "lr_scheduler_type lr_scheduler scheduler_type decay_type lr_decay_style",
    "optim.warmup_steps": "warmup_iters num_warmup_steps lr_warmup_steps warmup warmup_ratio",
    "optim.min_lr_ratio": "min_lr min_lr_factor final_lr_frac lr_min eta_min",
    "optim.cycle_momentum": "base_momentum cycle_beta1",
    "optim.wsd_decay_share": "decay_ratio warmdown_ratio cooldown_ratio",
    "decay.interval": "update_interval update_freq refresh_interval refresh_every",
    "decay.assign": "assign_func mapping",
    "run.steps": "max_steps max_iters num_iterations train_steps num_training_steps iterations "
    "total_steps num_train_epochs epochs",
    "run.global_batch": "batch_size train_batch_size global_batch_size total_batch_size "
    "gradient_accumulation_steps grad_accum_steps",
    "run.micro_batch": "batch_size per_device_train_batch_size local_batch_size micro_batch_size "
    "device_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps grad_accum_steps",
    "run.precision": "bf16 fp16 dtype mixed_precision mixed_precision_param torch_dtype",
    "run.seed": "random_seed training_seed",
    "run.data_seed": "shuffle_seed",
    "run.max_hours": "max_time time_limit",
    "eval.every": "eval_steps eval_interval eval_every eval_freq val_interval",
    "eval.tokens": "eval_iters eval_tokens max_eval_samples max_eval_batches",
    "eval.micro_batch": "per_device_eval_batch_size eval_batch_size eval.batch_size",
    "checkpoint.every": "save_steps save_interval save_every ckpt_interval checkpoint.interval",
    "checkpoint.asynchronous": "async_save async_mode async_checkpoint dist_ckpt_async",
    "checkpoint.keep": "save_total_limit keep_latest_k max_checkpoints",
    "deepspeed.config": "deepspeed_config ds_config zero_stage stage",
    "deepspeed.leaf_layers": "z3_leaf leaf_modules stage3_leaf",
    "deepspeed.timeout_minutes": "ddp_timeout timeout init_timeout_seconds",
    "log.every": "logging_steps log_interval log_freq log_every",
    "log.wandb": "wandb_log use_wandb enable_wandb report_to",
    "log.wandb_project": "project",
    "log.tensorboard": "enable_tensorboard use_tensorboard report_to",
    "log.progress": "disable_tqdm progress_bar",
    "log.profile_from": "profile enable_profiling",
}

# What must be said beside the name, where the meaning differs.
NOTES: Mapping[str, str] = MappingProxyType(
    {
        "gradient_accumulation_steps": "it follows from both and the number of ranks",
        "grad_accum_steps": "it follows from both and the number of ranks",
        "batch_size": "rows of an optimizer step, or of a rank's forward pass",
        "total_batch_size": "in rows, not tokens",
        "num_train_epochs": "a run's length is in optimizer steps",
        "epochs": "a run's length is in optimizer steps",
        "min_lr": "a share of optim.lr",
        "lr_min": "a share of optim.lr",
        "eta_min": "a share of optim.lr",
        "warmup_ratio": "in steps",
        "eval_iters": "in tokens",
        "ddp_timeout": "in minutes",
        "zero_stage": "a file of ds_configs, such as ds_configs/zero2.json",
        "stage": "a file of ds_configs, such as ds_configs/zero2.json",
    }
)


def _inverted(names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    ours: dict[str, tuple[str, ...]] = {}
    for own, others in names.items():
        for other in others.split():
            ours[other] = (*ours.get(other, ()), own)
    return ours


KEY_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(_inverted(_KEYS))
SECTION_SYNONYMS: Mapping[str, tuple[str, ...]] = MappingProxyType(_inverted(_SECTIONS))
