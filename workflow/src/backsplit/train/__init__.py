"""Training on the label maps, and how well the lesions are found."""
