"""Modular arithmetic: the smallest task on which a model learns by heart first and understands
later, which weight decay decides.
"""
