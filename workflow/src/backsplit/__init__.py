"""Turn a lesion data set into a BackSplit data set: the background split into anatomy."""

__version__ = "0.1.0"
