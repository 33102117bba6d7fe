"""What a run tells while it runs: the clock and the figures, metrics.jsonl, and the views of it."""
