"""What a batch, a loss, an evaluation and its figure of merit are: one package a task.

The loop trains whatever a task hands it; a task knows nothing of steps, stops and checkpoints.
"""
