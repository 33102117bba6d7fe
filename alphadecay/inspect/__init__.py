"""Looks inside models and runs that others made: files in, tables and pictures out.

Nothing here is needed to train; what draws and reads files is imported when a command asks for it.
"""
