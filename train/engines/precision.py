"""Resolves run.precision for the machine at hand."""

from __future__ import annotations

from train.system.device import has_bf16


def resolve_precision(precision: str) -> str:
    """Return what "auto" means here: bf16 where the device has bf16 arithmetic, else float32."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16() else "float32"
