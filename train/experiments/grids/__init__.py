"""Describes grids of experiments: the cells of a table, and the runs that fill them."""
