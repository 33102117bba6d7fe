"""When a run ends before its last step: signals, the time budget, steps that are not finite."""
