"""Profiles a window of steps on rank 0, into one trace file.

chrome://tracing and Perfetto open it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from train.system.device import uses_cuda


class ProfileWindow:
    """Profiles steps [first, first + count).

    Args:
        first: the first step, 1-based; 0 profiles nothing.
        count: steps.
        folder: takes trace-step-<first>.json.
    """

    def __init__(self, first: int, count: int, folder: Path) -> None:
        self._first = first
        self._last = first + count - 1
        self._folder = folder
        self._profile: Any = None

    def begin(self, step: int) -> None:
        """Start the profile if the window begins with this step."""
        if self._profile is None and self._first and self._first <= step <= self._last:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if uses_cuda():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profile = torch.profiler.profile(activities=activities)
            self._profile.__enter__()
            self._began = step

    def end(self, step: int) -> Path | None:
        """End the profile if the window ends with this step, and return the trace."""
        if self._profile is None or step < self._last:
            return None
        return self._write()

    def close(self) -> Path | None:
        """End a window that the run did not reach the end of."""
        return self._write() if self._profile is not None else None

    def _write(self) -> Path:
        profile = self._profile
        self._profile = None
        self._first = 0
        profile.__exit__(None, None, None)
        path = self._folder / f"trace-step-{self._began:08d}.json"
        profile.export_chrome_trace(str(path))
        return path
