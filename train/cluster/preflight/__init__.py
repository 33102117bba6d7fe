"""Looks at every node before training starts, and names the one that would spoil it."""
