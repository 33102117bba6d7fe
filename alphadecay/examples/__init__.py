"""AlphaDecay in five training loops, each a file that runs as it is: python -m
alphadecay.examples.plain.
"""
