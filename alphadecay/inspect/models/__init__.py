"""Which tensors of a model are weights, by names and shapes: no architecture's code is needed.

A stored model becomes a skeleton of modules without values, and the library chooses in it as it
does in a model that is trained.
"""

from alphadecay.inspect.models.weights import Weight, Weights, find_weights, matrices

__all__ = ["Weight", "Weights", "find_weights", "matrices"]
