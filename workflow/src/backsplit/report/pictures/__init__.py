"""Pictures of label maps: slices, close-ups, montages."""
