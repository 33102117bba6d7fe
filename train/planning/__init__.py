"""What a run would take, without running it: memory, tokens, owners, and every mistake at once."""
