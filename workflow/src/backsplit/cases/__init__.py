"""The cases of a data set: the table, and the files that it names."""
