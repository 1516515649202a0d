"""The configuration: frozen models, a section each, and the file that they come from."""
