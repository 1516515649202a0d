"""Training-ready data sets: one module per trainer's convention."""
