"""Labelled sentences: sources, a folder of tokens and labels, and the batches made of it."""
