"""The stages on a data set's folder: what each verb reads, does and writes."""
