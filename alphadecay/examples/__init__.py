"""AlphaDecay in other loops and frameworks, each a file that runs as it is: python -m
alphadecay.examples.plain.
"""
