"""Records what a run does: the clock and the figures, metrics.jsonl and the views of it,
and attempts.jsonl.
"""
