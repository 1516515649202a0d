"""The record of a data set: its manifest, whether it still holds, what became of a case."""
