"""The learning-rate range test: a short run over all learning rates, and what its loss says."""
