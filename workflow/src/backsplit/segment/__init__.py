"""Who labels anatomy: one module per kind of segmenter."""

from __future__ import annotations

import os

# Torch asks the kernel for large pages if told so before it is imported: a third less time on a
# CPU, where a sliding window's buffers are otherwise paged in 4 KiB at a time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from backsplit.config.model import Config
from backsplit.config.segmenters import Files, NnUNet, Threshold
from backsplit.segment.base import Segmenter


def build(config: Config, name: str) -> Segmenter:
    """Make the segmenter of that name; opens no weights yet.

    Each kind is imported where it is used: every verb asks segmenters for their classes, and
    should not wait for the libraries of those that the configuration has not.
    """
    segmenter = config.segmenters[name]
    if isinstance(segmenter, Files):
        from backsplit.segment.files import FilesSegmenter

        return FilesSegmenter(segmenter, config)
    if isinstance(segmenter, Threshold):
        from backsplit.segment.threshold import ThresholdSegmenter

        return ThresholdSegmenter(segmenter, config.dataset)
    if isinstance(segmenter, NnUNet):
        from backsplit.segment.nnunet import NnUNetSegmenter

        return NnUNetSegmenter(segmenter, config.dataset, config.run)
    from backsplit.segment.totalseg.segmenter import TotalSegmentatorSegmenter

    return TotalSegmentatorSegmenter(segmenter, config.dataset, config.run)
