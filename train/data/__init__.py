"""Turns text into rows of tokens: sources, tokenizers, prepared files and the reading order."""
