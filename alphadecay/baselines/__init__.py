"""What AlphaDecay is compared with: AWD, AdaDecay, and one decay for all weights."""
