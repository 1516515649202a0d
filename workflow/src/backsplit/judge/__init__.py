"""Find what is wrong before it is trained on."""
