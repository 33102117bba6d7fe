"""Checkpoints that commit by rename: a folder is either complete, with a manifest, or it is not a
checkpoint.

<output_dir>/checkpoints/step-00000100/state/...   what DeepSpeed writes, one file per rank; own_rank_*.pt
                                      /manifest.json   step, model, world size, and size and hash of every file
                         latest                    name of the one written last, for people; complete folders are the truth
                         universal-00000100/...    made from step-00000100 to go on at another world size or ZeRO stage
"""

from train.checkpoint.find import check_identity, find, identity
from train.checkpoint.load import load, load_own
from train.checkpoint.manifest import FOLDER, LATEST, MANIFEST, STATE, Checkpoint
from train.checkpoint.saver import Saver
from train.checkpoint.space import NotSaved
from train.checkpoint.universal import convert, fitting
from train.checkpoint.write import prune, save

__all__ = [
    "FOLDER",
    "LATEST",
    "MANIFEST",
    "STATE",
    "Checkpoint",
    "NotSaved",
    "Saver",
    "check_identity",
    "convert",
    "find",
    "fitting",
    "identity",
    "load",
    "load_own",
    "prune",
    "save",
]
