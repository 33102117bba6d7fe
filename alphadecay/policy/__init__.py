"""Scores -> decays: numbers in, numbers out."""

from alphadecay.policy.assign import assign_weight_decay

__all__ = ["assign_weight_decay"]
