"""Finished runs of a grid as a table: collect, compare over seeds, say what differs from the paper,
write.
"""
