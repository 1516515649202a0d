"""How a batch of cases is worked through, recorded and followed."""
