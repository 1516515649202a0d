"""Layers to one label map: precedence, lesions, what was overruled, promises kept."""
