"""All that needs a GPU, in one process and in the order of its worth, within a budget of seconds.

    python -m tests.gpu --budget 480

A process costs 25 s of imports and of libraries that set themselves up, so everything is a case of
one process. After each case the JSON is written anew; a case that fails, runs out of memory or
takes too long is recorded, and the next goes on. `python -m tests.gpu table` prints what a JSON
says as tables. `--device cpu --toy` rehearses every case on a small model without a GPU.
"""
