"""What AlphaDecay is compared with: AWD (arXiv 2210.00094), AdaDecay (arXiv 1907.08931), one decay
for all weights, and norms held instead: LAWN (arXiv 2108.05839) and Hyperball (arXiv 2606.16899).
"""
