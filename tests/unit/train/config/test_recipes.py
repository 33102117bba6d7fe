"""The shipped recipes and DeepSpeed configurations."""

import json
from pathlib import Path

import pytest

from train.config.command_line import load_config
from train.config.recipe_file import RECIPES
from train.config.validate import accumulation_steps, rows_per_rank
from train.models.build import model_on_meta

DS_CONFIGS = RECIPES.parents[1] / "ds_configs"
# name: parameters in millions, steps, peak learning rate (arXiv 2506.14562)
EXPECTED = {
    "quickstart": (6.84, 150, 2e-3),
    "evidence": (0.84, 500, 3e-3),
    "bitnet_tiny": (0.84, 500, 3e-3),
    "gpt_nano": (109.83, 20_000, 6e-4),
    "llama_60m": (58.07, 10_000, 1e-3),
    "llama_130m": (134.11, 20_000, 1e-3),
    "llama_350m": (367.97, 60_000, 1e-3),
    "llama_1b": (1339.08, 90_000, 6e-4),
}

# of other tasks, with checks of their own
OTHERS = {"grokking", "vit_tiny", "vit_tiny_smoke"}
OF_SENTENCES = {"glue": (124.65, 2), "glue_smoke": (0.88, 8)}  # parameters in millions, classes


def parameters(model, length):
    if model.architecture == "gpt2":  # biases, two gains a norm, positions; a tied head
        width = model.hidden_size
        attention = 4 * width**2 + 4 * width
        mlp = 2 * width * model.intermediate_size + model.intermediate_size + width
        layers = model.num_layers * (attention + mlp + 4 * width)
        return (model.vocab_size + length) * width + layers + 2 * width
    attention = 4 * model.hidden_size**2
    mlp = 3 * model.hidden_size * model.intermediate_size
    norms = 2 * model.hidden_size
    return (
        2 * model.vocab_size * model.hidden_size
        + model.num_layers * (attention + mlp + norms)
        + model.hidden_size
    )


def test_every_recipe_is_expected():
    expected = set(EXPECTED) | OTHERS | set(OF_SENTENCES)
    assert {path.stem for path in RECIPES.glob("*.yaml")} == expected


@pytest.mark.parametrize("name", OF_SENTENCES)
def test_recipes_of_sentences_have_their_sizes(name):
    config = load_config(["--config", str(RECIPES / f"{name}.yaml")])
    module = model_on_meta(config.model, config.positions)
    millions, classes = OF_SENTENCES[name]
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert config.model.num_labels == classes


def test_grokking_sees_every_pair_hundreds_of_times():
    config = load_config(["--config", str(RECIPES / "grokking.yaml")])
    pairs = round(config.arithmetic.train_share * config.arithmetic.modulus**2)
    assert config.run.steps * config.run.global_batch > 800 * pairs
    assert config.model.vocab_size == config.arithmetic.modulus + 1
    assert (config.optim.weight_decay, config.optim.min_lr_ratio) == (0.3, 1.0)  # nothing fades
    assert [accumulation_steps(config, ranks) for ranks in (1,)]


def test_vit_tiny_is_the_papers():
    config = load_config(["--config", str(RECIPES / "vit_tiny.yaml")])
    epoch = 1_281_167 // config.run.global_batch
    assert (config.optim.name, config.optim.lr, config.optim.ema) == ("adam", 4e-3, 0.9999)
    assert config.run.global_batch == 2 * 192 and config.decay.interval == epoch
    assert (config.run.steps, config.optim.warmup_steps) == (120 * epoch, 20 * epoch)
    assert (config.model.drop_path, config.run.precision) == (0.1, "float32")
    assert config.optim.lr * config.optim.min_lr_ratio == pytest.approx(1e-6)


@pytest.mark.parametrize("name", EXPECTED)
def test_recipe(name):
    config = load_config(["--config", str(RECIPES / f"{name}.yaml")])
    millions, steps, lr = EXPECTED[name]
    assert parameters(config.model, config.data.sequence_length) / 1e6 == pytest.approx(
        millions, abs=0.01
    )
    assert (config.run.steps, config.optim.lr) == (steps, lr)
    assert config.optim.warmup_steps == steps // 10
    assert (
        config.optim.name,
        config.optim.weight_decay,
        config.optim.grad_clip,
        config.optim.min_lr_ratio,
    ) == ("adamw", 0.1, 1.0, 0.1)
    assert (config.decay.method, config.decay.s1, config.decay.s2) == ("alphadecay", 0.67, 5.0)
    sizes = (config.run.micro_batch, config.deepspeed.config)
    if name.startswith(("llama", "gpt")):
        assert sizes == ("auto", "auto")
        assert [rows_per_rank(config, ranks) for ranks in (1, 2)]
    else:  # the same on every machine
        assert (RECIPES.parents[1] / sizes[1]).is_file()
        assert [accumulation_steps(config, ranks) for ranks in (1, 2)]
    assert "arXiv 2506.14562" in (RECIPES / f"{name}.yaml").read_text()


@pytest.mark.parametrize(
    "name", [name for name in EXPECTED if name not in ("quickstart", "evidence", "bitnet_tiny")]
)
def test_the_papers_setting(name):
    config = load_config(["--config", str(RECIPES / f"{name}.yaml")])
    assert (config.data.source, config.data.sequence_length, config.run.global_batch) == (
        "c4",
        256,
        512,
    )
    assert (config.decay.interval, config.model.vocab_size) == (500, 32_000)
    assert config.data.max_documents >= config.run.steps * config.run.global_batch


@pytest.mark.parametrize("name", EXPECTED)
def test_transformers_counts_the_same(name):
    config = load_config(["--config", str(RECIPES / f"{name}.yaml")])
    length = config.data.sequence_length
    built = model_on_meta(config.model, length)
    assert sum(one.numel() for one in built.parameters()) == parameters(config.model, length)


@pytest.mark.parametrize("path", sorted(DS_CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_deepspeed_configuration(path: Path):
    config = json.loads(path.read_text())
    for key in (
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
    ):
        assert config[key] == "auto"  # the recipe owns it
    assert config["bf16"]["enabled"] == "auto"
    assert not {"optimizer", "scheduler", "fp16"} & config.keys()
    zero = config["zero_optimization"]
    assert zero["stage"] == int(path.stem[4])
    # the library registers its optimizers by itself
    assert "zero_allow_untested_optimizer" not in config
    offloads = path.stem.endswith("_offload")
    assert ("offload_optimizer" in zero) is offloads
    assert not offloads or config["zero_force_ds_cpu_optimizer"] is False


def test_every_deepspeed_configuration_is_there():
    assert {path.stem for path in DS_CONFIGS.glob("*.json")} >= {
        "zero0",
        "zero1",
        "zero2",
        "zero3",
        "zero2_offload",
        "zero3_offload",
    }


@pytest.mark.parametrize("path", sorted(DS_CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_deepspeed_knows_every_zero_key(path: Path):
    zero = pytest.importorskip("deepspeed.runtime.zero.config").DeepSpeedZeroConfig
    config = zero(**json.loads(path.read_text())["zero_optimization"])  # refuses unknown keys
    assert int(config.stage) == int(path.stem[4])
