"""Writes and finds checkpoints that commit by rename: a folder is whole, or it is no checkpoint.

Below <output_dir>/checkpoints:

    step-00000100/state/...        what the engine writes, one file per rank; own_rank_*.pt
    step-00000100/manifest.json    step, model, world size, and size and hash of every file
    latest                         name of the one written last, for people only
    universal-00000100/...         made from it for another world size, ZeRO stage or engine
"""

from train.checkpoint.beginning import Resume, how_to_resume, write_beginning
from train.checkpoint.find import check_identity, find, identity, peek
from train.checkpoint.finite import weights_are_finite
from train.checkpoint.load import load, load_rank_state
from train.checkpoint.manifest import LATEST, MANIFEST, STATE, Checkpoint
from train.checkpoint.outcomes import LastNotSaved, NotFinite, Saved
from train.checkpoint.prune import prune
from train.checkpoint.saver import Saver
from train.checkpoint.space import NotSaved
from train.checkpoint.together import find_together
from train.checkpoint.universal import convert, convert_if_needed, deepspeed_reads
from train.checkpoint.write import save

__all__ = [
    "LATEST",
    "MANIFEST",
    "STATE",
    "Checkpoint",
    "LastNotSaved",
    "NotFinite",
    "NotSaved",
    "Resume",
    "Saved",
    "Saver",
    "check_identity",
    "convert",
    "convert_if_needed",
    "deepspeed_reads",
    "find",
    "find_together",
    "how_to_resume",
    "identity",
    "load",
    "load_rank_state",
    "peek",
    "prune",
    "save",
    "weights_are_finite",
    "write_beginning",
]
