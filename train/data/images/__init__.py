"""Images with a class each: found, verified, read, changed at random and put into batches."""
