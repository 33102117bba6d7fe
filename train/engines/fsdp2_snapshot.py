"""Has torch.distributed.checkpoint plan a save whose files are written later.

The plan is made by all ranks together, as always, but once: the next save has the same tensors. The
tensors go into a snapshot, and the table of contents, which says where each lies in its file, is
made once the files are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.filesystem import DEFAULT_SUFFIX, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.checkpoint.utils import find_state_dict_object
from torch.futures import Future

from train.engines.snapshot import Place, Snapshot


@dataclass(frozen=True)
class Contents:
    """What rank 0 knows of all ranks' files.

    Args:
        metadata: the table of contents, but for the places.
        indices: what each file holds, in its order, by the file's name.
    """

    metadata: Metadata
    indices: Mapping[str, list[MetadataIndex]]

    def write(self, folder: Path, places: Mapping[Path, list[Place]]) -> Path:
        """Write the table of contents, and return its path.

        Args:
            folder: of the state.
            places: of the tensors in every rank's file.
        """
        results = [
            WriteResult(index, size, _StorageInfo(name, offset, size))
            for name, indices in self.indices.items()
            for index, (offset, size) in zip(indices, places[folder / name], strict=True)
        ]
        writer = FileSystemWriter(folder, sync_files=False)
        writer.finish(self.metadata, [results])
        return Path(writer._get_metadata_path())


class PlannedSnapshots:
    """Takes snapshots of sharded tensors. Collective to use."""

    def __init__(self) -> None:
        self._planned: tuple[Any, ...] = ()
        self._recorder = _Recorder()

    def take(self, tensors: Mapping[str, Tensor], folder: Path, snapshot: Snapshot) -> None:
        """Take this rank's shards, and on rank 0 what is written last.

        Args:
            tensors: by name, the same on all ranks.
            folder: where their files will be.
            snapshot: takes them.
        """
        kinds = tuple((name, own.shape, own.dtype) for name, own in tensors.items())
        if kinds != self._planned:
            recorder = _Recorder()
            dcp.save(dict(tensors), storage_writer=recorder)
            self._planned = kinds
            self._recorder = recorder
        plan = self._recorder.plan
        if plan is not None and plan.items:
            own = [find_state_dict_object(dict(tensors), item.index) for item in plan.items]
            snapshot.take_tensors(folder / _file_name(plan), own)
        contents = self._recorder.contents
        if contents is not None:
            snapshot.closing = lambda places: contents.write(folder, places)


class _Recorder(FileSystemWriter):
    """Records the plan of a save, and writes nothing.

    Attributes:
        plan: of this rank.
        contents: of all, on rank 0.
    """

    def __init__(self) -> None:
        super().__init__("", sync_files=False)
        self.plan: SavePlan | None = None
        self.contents: Contents | None = None
        self._indices: dict[str, list[MetadataIndex]] = {}

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan as it is: no folder is needed yet."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Name every rank's file, and remember what it will hold. On rank 0."""
        named = super().prepare_global_plan(plans)
        self._indices = {
            _file_name(plan): [item.index for item in plan.items] for plan in named if plan.items
        }
        return named

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Keep this rank's plan; nothing is written, so nothing is reported."""
        self.plan = plan
        done: Future[list[WriteResult]] = Future()
        done.set_result([])
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Keep the table of contents until the files are written. On rank 0."""
        self.contents = Contents(metadata, self._indices)


def _file_name(plan: SavePlan) -> str:
    """Return the name of the one file of a rank, as FileSystemWriter gives it."""
    return f"{plan.storage_data.prefix}0{DEFAULT_SUFFIX}"
