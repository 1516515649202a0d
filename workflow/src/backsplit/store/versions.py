"""What stages write, counted: raised where the same inputs give another result than before.

A result's fingerprint and the key of its job hold it: after an upgrade a run makes again what would
come out otherwise, and nothing else.
"""

CHECK = 1
SEGMENT = 3
COVERAGE = 1
"""Where a segmenter has looked; of cases whose channel does not cover the image."""
COMPOSE = 10
MEASURE = 11
PICTURE = 2
"""The picture of a case, which measuring draws."""
PAGE = 3
JUDGE = 3
EXPORT = 1
