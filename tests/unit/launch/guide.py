"""What a page of the guide names, and which of it is not there: each check takes a page's code and
yields what it misses.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import alphadecay
from alphadecay.config import AlphaDecayConfig
from tests.conftest import ROOT
from tests.unit.launch.programs import PROGRAM, options_of, program_named
from train.commands import COMMANDS
from train.config.arguments import split_dry_run
from train.config.command_line import load_config
from train.config.key_registry import SPELLED_OUT, known_keys
from train.errors import UserError

FOLDERS = "alphadecay|train|ds_configs|launch|docker|docs|tests"
# Stand for something of the reader's.
PLACEHOLDERS = {
    "train/recipes/NAME.yaml",
    "train/models/NAME.py",
    "train/data/sources/NAME.py",
    "section.key",
    "NAME",
    "RUN",
    "RECIPE",
    "OUTPUT_DIR",
    "GRAM_METHODS",
    "MAPS",
    "METHODS",
    "SOLVERS",
    "SPEC",
    "TAILS",
}
# Read by others than us.
FOREIGN_VARIABLES = {
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "GLOO_SOCKET_IFNAME",
    "HF_HUB_OFFLINE",
    "MALLOC_TRIM_THRESHOLD_",
    "NCCL_DEBUG",
    "NCCL_DEBUG_SUBSYS",
    "NCCL_IB_DISABLE",
    "NCCL_IB_GID_INDEX",
    "NCCL_IB_HCA",
    "NCCL_IB_TC",
    "NCCL_NSOCKS_PERTHREAD",
    "NCCL_P2P_DISABLE",
    "NCCL_SOCKET_IFNAME",
    "NCCL_SOCKET_NTHREADS",
    "TORCH_CPP_LOG_LEVEL",
    "TORCH_CUDA_ARCH_LIST",
    "TORCH_DISTRIBUTED_DEBUG",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
    "TORCH_FR_BUFFER_SIZE",
    "TORCH_FR_DUMP_TEMP_FILE",
    "TORCH_NCCL_DEBUG_INFO_TEMP_FILE",
    "TORCH_NCCL_DUMP_ON_TIMEOUT",
    "TORCH_NCCL_TRACE_BUFFER_SIZE",
    "WANDB_API_KEY",
}
# Names in backticks that are others' or say what something is called.
FOREIGN_KEYWORDS = {"Trainer": {"callbacks"}, "TrainingArguments": {"weight_decay"}}
FOREIGN_WORDS = {"show_gids", "mlx5_0", "mlx5_1", "client_state", "fully_shard"}


def code(text: str) -> str:
    """What a page writes as code, a command or a name a line: blocks, and words in backticks.

    Blocks of `text` and `console` are what programs say.
    """
    text = re.sub(r"^ *```(?:text|console)\n.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [
        block.replace("\\\n", " ")
        for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    ]
    rest = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return "\n".join(
        [*blocks, *(" ".join(words.split()) for words in re.findall(r"`([^`]+)`", rest))]
    )


def missing_paths(text: str) -> Iterator[str]:
    """Files and folders of ours."""
    for path in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./*-]*", text):
        path = path.rstrip(".")
        if path not in PLACEHOLDERS and not list(ROOT.glob(path.rstrip("/"))):
            yield path


def missing_modules(text: str) -> Iterator[str]:
    """Modules and commands that `python -m` starts."""
    commands = re.findall(r"-m train ([a-z][a-z-]*)", text)
    yield from (f"train {name}" for name in commands if name not in COMMANDS)
    yield from (
        module
        for module in re.findall(r"-m (train[\w.]*|alphadecay[\w.]*)", text)
        if importlib.util.find_spec(module) is None
    )


def missing_targets(text: str) -> Iterator[str]:
    """Targets of make."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    yield from (
        target for target in re.findall(r"(?<![\w-])make ([a-z]+)", text) if target not in targets
    )


# --- keys of a recipe
# -------------------------------------------------------------------------------------------------


def missing_keys(text: str) -> Iterator[str]:
    """Dotted keys, with dashes or without; and attributes of `decay`, which the library's pages
    call the controller.
    """
    keys = set(known_keys()) | set(SPELLED_OUT)
    sections = {key.split(".")[0] for key in keys if "." in key}
    for dashes, section, leaf, call in re.findall(
        r"(?<![\w/.-])(--)?([a-z]+)\.([a-z]\w*)(?![\w./])(\(?)", text
    ):
        name = f"{section}.{leaf}"
        file = leaf in (
            "py",
            "md",
            "json",
            "jsonl",
            "yaml",
            "sh",
            "sbatch",
            "png",
            "txt",
            "sqsh",
            "sif",
        )
        attribute = (
            section == "decay"
            and not dashes
            and (hasattr(alphadecay.AlphaDecay, leaf) or leaf == "plan")
        )
        ours = dashes or (section in sections and not file and (section == "decay" or not call))
        if ours and name not in keys | PLACEHOLDERS and not attribute:
            yield name
    for line in text.splitlines():  # a section that is misspelt
        alone = re.fullmatch(r"([a-z]+)\.([a-z_]+)(?: \w+)?", line)
        if (
            alone
            and alone[1] not in sections
            and not list(ROOT.rglob(line))
            and not _elsewhere(line)
        ):
            yield line


def _elsewhere(name: str) -> bool:
    """A module, or a file that a run writes."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return any(
            f'"{name}"' in file.read_text()
            for folder in ("alphadecay", "train", "launch")
            for file in (ROOT / folder).rglob("*.py")
        )


def refused_values(text: str) -> Iterator[str]:
    """Arguments of the program that it would refuse: those on command lines, and keys with a value
    alone.
    """
    for line in text.splitlines():
        started = re.search(
            r"(?:train/pretrain\.py|launch/\w+\.sh|train\.data\.prepare|\.sbatch|run "
            r"train|alphadecay:cpu) (.*)",
            line.split("  #")[0],
        )
        given = re.fullmatch(r"(?:--)?([a-z]+\.[a-z_]+|resume) ([a-z0-9'].*)", line)
        words = started[1] if started else f"--{given[1]} {given[2]}" if given else ""
        first = re.search(r"--(?:config|[a-z]+\.[a-z_]+|resume) .*", words)
        if first and "section.key" not in first[0] and (reason := _refusal(first[0])):
            yield reason


@cache
def _refusal(words: str) -> str:
    """What the program says against these arguments; empty for nothing."""
    given = [
        word
        for word in shlex.split(words.replace("RECIPE", "train/recipes/quickstart.yaml"))
        if word[0] not in "[]."
    ]
    given = given if "--config" in given else ["--config", "train/recipes/quickstart.yaml", *given]
    try:
        load_config(["1" if word in ("H", "N") else word for word in split_dry_run(given, 1)[0]])
    except UserError as error:
        return str(error)
    return ""


# --- options and variables
# -------------------------------------------------------------------------------------------------


def missing_options(text: str) -> Iterator[str]:
    """Options, of the program that stands before them; one alone may be of any."""
    for line in text.splitlines():
        program = ""
        for word in re.sub(
            r"-m train ([a-z][a-z-]*)",
            "train:\\1",
            line.split("  #")[0].replace("run train", "run alphadecay:cpu"),
        ).split():
            word = word.strip("()'\"$;,")
            program = program_named(word, program) or (
                PROGRAM if word == "--" and program == "train:sweep" else program
            )
            option = re.match(r"--([a-zA-Z][\w.-]*)", word)
            if option and option[1] not in options_of(program) | PLACEHOLDERS:
                yield f"{program} --{option[1]}".strip()


ALL = ("launch/**/*", "docker/*", "train/**/*.py", "alphadecay/**/*.py", "Makefile")


@cache
def variables_read(places: tuple[str, ...]) -> set[str]:
    """Environment variables, and arguments of make and of the image's build, that files at these
    places read.
    """
    found: set[str] = set()
    for file in (
        file
        for place in places
        for file in ROOT.glob(place)
        if file.is_file() and file.suffix not in (".md", ".pyc")
    ):
        text = re.sub(r"^\s*#.*$", "", file.read_text(), flags=re.MULTILINE)
        if file.suffix == ".py":
            found |= {
                name
                for line in text.splitlines()
                if "environ" in line
                for name in re.findall(r'"([A-Z][A-Z0-9_]*)"', line)
            }
        else:
            found |= set(re.findall(r"\$[{(]?([A-Z][A-Z0-9_]*)\b", text)) | set(
                re.findall(r"^(?:ARG )?([A-Z_]+)(?=\s*[?:]?=)", text, flags=re.MULTILINE)
            )
    return found


def missing_variables(text: str, places: tuple[str, ...] = ALL) -> Iterator[str]:
    """Names in capitals, alone or before `=`, that nothing at these places reads and that are no
    others' either.
    """
    alone = re.findall(r"^([A-Z][A-Z0-9_]*)$", text, flags=re.MULTILINE)
    for name in [
        *alone,
        *re.findall(r"(?<![\w-])([A-Z][A-Z0-9_]*)=", text),
        *re.findall(r"--env ([A-Z][A-Z0-9_]*)", text),
    ]:
        if name not in variables_read(places) | FOREIGN_VARIABLES | PLACEHOLDERS:
            yield name


# --- the library
# -------------------------------------------------------------------------------------------------


def _keywords(name: str) -> set[str] | None:
    """Keywords of something that we export; None for what is not known here."""
    from alphadecay.integrations import AlphaDecayCallback

    if name in FOREIGN_KEYWORDS:
        return FOREIGN_KEYWORDS[name]
    ours: Any = {"AlphaDecayCallback": AlphaDecayCallback}.get(name) or getattr(
        alphadecay, name, None
    )
    if ours is None:
        return None
    named = inspect.signature(ours).parameters
    return set(named) | (
        set(AlphaDecayConfig.__dataclass_fields__)
        if any(p.kind is p.VAR_KEYWORD for p in named.values())
        else set()
    )


def missing_keywords(text: str) -> Iterator[str]:
    """Keywords that the library does not take, of calls and alone; and values that it refuses."""
    choices = _keywords("AlphaDecay") or set()
    for line in text.splitlines():
        try:
            tree = ast.parse(line.strip().replace(", ...)", ")"))
        except SyntaxError:
            continue
        for call in (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        ):
            known = _keywords(call.func.id)  # type: ignore[attr-defined]
            if known is not None:
                yield from (
                    keyword.arg or "" for keyword in call.keywords if keyword.arg not in known
                )
        alone = re.fullmatch(r"([a-z_0-9]+)=(\S+)", line)
        if alone and alone[1] not in choices:
            yield alone[1]
        elif alone and alone[2][0] in "\"'":
            yield from _refused(alone[1], ast.literal_eval(alone[2]))


def _refused(choice: str, value: str) -> Iterator[str]:
    try:
        AlphaDecayConfig(**{choice: value})
    except ValueError as error:
        yield str(error)


def missing_words(text: str) -> Iterator[str]:
    """Names with an underscore and words in quotes, alone in backticks, that no source has."""
    for line in text.splitlines():
        name = re.fullmatch(r'"?([a-z][a-z0-9]*(?:_[a-z0-9]+)+)"?|"(\w+)"', line)
        if name and (name[1] or name[2]) not in words_of_ours() | FOREIGN_WORDS:
            yield name[1] or name[2]


@cache
def words_of_ours() -> set[str]:
    """Every word of the sources."""
    files = (
        file
        for folder in FOLDERS.split("|")[:-1]
        for kind in ("py", "yaml", "json", "sh")
        for file in (ROOT / folder).rglob(f"*.{kind}")
    )
    return {word for file in files for word in re.findall(r"\w+", file.read_text())}


CHECKS = (
    missing_paths,
    missing_modules,
    missing_targets,
    missing_keys,
    refused_values,
    missing_options,
    missing_variables,
    missing_keywords,
    missing_words,
)


def missing(text: str) -> list[str]:
    """What all checks find."""
    return [f"{check.__name__}: {name}" for check in CHECKS for name in check(text)]
