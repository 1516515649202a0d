"""The embedded demo: phantoms made by code, and a small network trained on such phantoms."""
