"""Names and ids: what is asked for, resolved against what segmenters can label."""
