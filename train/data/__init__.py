"""Text in, rows of tokens out: corpora, tokenizers, the prepared token files and the order in which
they are read.
"""
