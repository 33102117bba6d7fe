"""Classifying sentences and pairs of them, and predicting a number from them."""
