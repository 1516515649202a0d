"""Files of the results: written whole, locked, fingerprinted."""
