"""Tells what a run would take without running it: memory, tokens, owners, every mistake."""
