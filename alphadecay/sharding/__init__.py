"""How ranks hold the weights, one file a backend: how a whole matrix reaches its owner, and how the
optimizer's slices lie. All collectives are here.
"""
