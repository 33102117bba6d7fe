"""A LLaMA pre-training program built on the alphadecay library."""
