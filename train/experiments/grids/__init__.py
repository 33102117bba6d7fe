"""Grids of experiments: what a table's cells are (cells, description), and how their runs stand and
are started (the rest).
"""
