"""Has torch.distributed.checkpoint plan a save whose files are written later.

The plan is made by all ranks together, as always; the tensors go into a snapshot, and the table of
contents, which says where each lies in its file, is made once the files are there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.filesystem import DEFAULT_SUFFIX, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from train.engines.snapshot import Place, Snapshot


class SnapshotWriter(FileSystemWriter):
    """Takes what FileSystemWriter would write into `folder`.

    Args:
        folder: where the files will be.
        snapshot: takes them.
    """

    def __init__(self, folder: Path, snapshot: Snapshot) -> None:
        super().__init__(folder, sync_files=False)
        self._folder = folder
        self._snapshot = snapshot
        self._indices: dict[str, list[MetadataIndex]] = {}

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan as it is: no folder is needed yet."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Name every rank's file, and remember what it will hold, in its order. On rank 0."""
        named = super().prepare_global_plan(plans)
        self._indices = {
            _file_name(plan): [item.index for item in plan.items] for plan in named if plan.items
        }
        return named

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Take this rank's tensors; nothing is written, so nothing is reported."""
        tensors = [_tensor(planner.resolve_data(item)) for item in plan.items]
        if tensors:
            self._snapshot.take_tensors(self._folder / _file_name(plan), tensors)
        done: Future[list[WriteResult]] = Future()
        done.set_result([])
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Keep the table of contents until the files are written. On rank 0."""
        self._snapshot.closing = lambda places: self._write_contents(metadata, places)

    def _write_contents(self, metadata: Metadata, places: Mapping[Path, list[Place]]) -> Path:
        """Write the table of contents, and return its path.

        Args:
            places: of the tensors in every rank's file.
        """
        results = [
            WriteResult(index, size, _StorageInfo(name, offset, size))
            for name, indices in self._indices.items()
            for index, (offset, size) in zip(indices, places[self._folder / name], strict=True)
        ]
        super().finish(metadata, [results])
        return Path(self._get_metadata_path())


def _file_name(plan: SavePlan) -> str:
    """Return the name of the one file of a rank, as FileSystemWriter gives it."""
    return f"{plan.storage_data.prefix}0{DEFAULT_SUFFIX}"


def _tensor(data: Any) -> Tensor:
    """Return the tensor of an item; this engine saves nothing else."""
    assert isinstance(data, Tensor), f"{type(data).__name__} in a state of tensors"
    return data
