"""Decides when a run ends early: signals, the time budget, steps that are not finite."""
