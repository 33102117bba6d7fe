"""Measures the weights of a model: a row a weight, and what the model is as a whole."""
