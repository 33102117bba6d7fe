"""Predicting the next token of text."""
