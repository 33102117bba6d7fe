"""Looks at every node before training starts, and names the one that would spoil it.

`python -m train preflight --help`.
"""
