"""From a checkpoint's files to weights and a tokenizer that other programs read."""
