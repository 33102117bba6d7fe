"""Whatever the pages of the guide name is there: files, modules, keys and their values, options,
make targets, variables, keywords.
"""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT
from tests.unit.launch.guide import code, missing, missing_variables

PAGES = (
    "README.md",
    "launch/README.md",
    "CONTRIBUTING.md",
    "alphadecay/README.md",
    "train/README.md",
    "ds_configs/README.md",
    "docker/README.md",
    "tests/README.md",
    "docs/methods.md",
    "docs/sizing.md",
    "docs/troubleshooting.md",
)
MISSPELT = PAGES[:6]  # where a letter too many is tried in every name
# Section of a page -> where the variables that it names are read.
READERS = {
    ("launch/README.md", "SLURM"): ("launch/slurm/*",),
    ("docker/README.md", "Docker"): ("docker/*", "Makefile", "launch/*.sh"),
}


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes are named from there."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("page", PAGES)
def test_everything_that_a_page_names_is_there(page: str) -> None:
    text = code((ROOT / page).read_text())
    assert len(text) > 200
    assert missing(text) == []


@pytest.mark.parametrize(("page", "section"), sorted(READERS))
def test_variables_are_read_where_the_section_says(page: str, section: str) -> None:
    text = re.sub(r"^### .*$", "", (ROOT / page).read_text() + "\n## ", flags=re.MULTILINE)
    [words] = re.findall(rf"^## {section}\n(.*?)(?=^## )", text, flags=re.DOTALL | re.MULTILINE)
    names = "\n".join(line for line in code(words).splitlines() if re.match(r"[A-Z_]+(=|$)", line))
    assert len(names.split()) >= 5
    assert list(missing_variables(names, READERS[page, section])) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see train/nothing.py", "missing_paths: train/nothing.py"),
        ("ds_configs/zero*.json and launch/", ""),
        ("python -m train.nothing", "missing_modules: train.nothing"),
        ("make coffee", "missing_targets: coffee"),
        ("--run.stepz 3", "missing_keys: run.stepz"),
        ("decay.metod", "missing_keys: decay.metod"),
        ("decay.alfas", "missing_keys: decay.alfas"),
        ("decay.state_dicts()", "missing_keys: decay.state_dicts"),
        ("optin.name", "missing_keys: optin.name"),
        ("deepspeed.timeout_hours", "missing_keys: deepspeed.timeout_hours"),
        (
            "ds_configs/zero0.json, run.steps, decay.weight_decays, model.layers.0.self_attn, "
            "torch.distributed, summary.json",
            "",
        ),
        ("decay.compat publishd", "decay.compat must be"),
        (
            "python train/pretrain.py --config train/recipes/quickstart.yaml --decay.method "
            "unifrom",
            "decay.method must be",
        ),
        ("sbatch my.sbatch --optim.lr fast", "optim.lr must be"),
        ("--resum auto", "missing_options: --resum"),
        ("--dryrun", "missing_options: --dryrun"),
        ("--wold-size", "missing_options: --wold-size"),
        (
            "python -m train sweep adam --lancher slurm",
            "missing_options: train:sweep --lancher",
        ),
        (
            "python -m train tables adam --jobs 2",
            "missing_options: train:tables --jobs",
        ),
        ("python -m train sweep adam --sbatch my.sbatch --jobs 2 -- --run.data_seed 1", ""),
        (
            "python -m train export RUN --outt FOLDER",
            "missing_options: train:export --outt",
        ),
        (
            "launch/torchrun.sh --nodes 2 --nodez 2 --run.seed 1 --output_dir x  # --what",
            "missing_options: launch/torchrun.sh --nodez",
        ),
        (
            "torchrun --standalone --nproc_per_nod 8 train/pretrain.py",
            "missing_options: torchrun --nproc_per_nod",
        ),
        ("deepspeed --num_gpu 8 train/pretrain.py", "missing_options: deepspeed --num_gpu"),
        ("alphadecay estimate weight.npy --jsn", "missing_options: alphadecay --jsn"),
        ("docker run --readonly", "missing_options: docker --readonly"),
        ("MAX_RESTART", "missing_variables: MAX_RESTART"),
        ("SWEEPS=sweep.txt sbatch my.sbatch", "missing_variables: SWEEPS"),
        ("NCCL_IB_HAC=mlx5_0", "missing_variables: NCCL_IB_HAC"),
        ("docker run --env RANK_COUNT=2", "missing_variables: RANK_COUNT"),
        ("AlphaDecay(model, optimizer, intervall=500)", "missing_keywords: intervall"),
        ("AlphaDecayCallback(intervall=500)", "missing_keywords: intervall"),
        ("AdamW(parameters, weight_decays=0.1)", "missing_keywords: weight_decays"),
        ('assign_weight_decay({"q": 2.1}, decay=0.1)', "missing_keywords: decay"),
        ("spraed=K", "missing_keywords: spraed"),
        ('method="svdd"', "method is 'svdd'"),
        ("mean_preservng", "missing_words: mean_preservng"),
        ('"fix_fingr"', "missing_words: fix_fingr"),
    ],
)
def test_the_checks_see_what_is_not_there(text: str, found: str) -> None:
    said = missing(text)
    assert any(found in one for one in said) if found else said == [], said


NAMES = {
    "options": r"(?<!\S)--[a-z][\w.-]+",
    "keys": r"(?m)^(?:data|decay|deepspeed|model|optim|run)\.[a-z_]+(?![\w.])",
    "variables": r"(?m)^[A-Z][A-Z0-9_]{3,}(?==|$)",
    "keywords": r"(?<=[ (])(?:interval|s1|s2|weight_decay)(?==)",
    "values": r'(?m)(?<=[a-z]=")[a-z_]+(?="$)',
}


@pytest.mark.parametrize("kind", sorted(NAMES))
def test_any_name_that_is_misspelt_is_seen(kind: str) -> None:
    """Each on its line with a letter too many, on the page as it is."""
    seen = 0
    for page in MISSPELT:
        for line in dict.fromkeys(code((ROOT / page).read_text()).splitlines()):
            for name in re.finditer(NAMES[kind], line.split("  #")[0]):
                if name[0] not in ("--section.key", "--config"):
                    misspelt = (
                        line[: name.end()]
                        + ("Z" if name[0].isupper() else "z")
                        + line[name.end() :]
                    )
                    assert missing(misspelt), misspelt
                    seen += 1
    assert seen >= 3
