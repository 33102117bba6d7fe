"""Reads what models are stored in, one file a format; what is read is a table of tensors, each of
which is brought into memory when it is asked for.

No file is trusted: nothing is executed, nothing outside the folder is opened, and no claim of a
size is believed before the file is seen to hold it.
"""

from alphadecay.inspect.sources.detect import open_source
from alphadecay.inspect.sources.source import BrokenTensor, Source, StoredTensor

__all__ = ["BrokenTensor", "Source", "StoredTensor", "open_source"]
