"""What is measured of each case: structures, lesions, agreement of segmenters."""
