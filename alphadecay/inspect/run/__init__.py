"""A run of the pre-training program, read from its folder; nothing here needs torch."""
