"""One module for a layout, or for a family of layouts."""
