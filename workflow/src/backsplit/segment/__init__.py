"""Who labels anatomy: one module per kind of segmenter."""

from __future__ import annotations

import os

# Torch asks the kernel for large pages if told so before it is imported: a third less time on a
# CPU, where a sliding window's buffers are otherwise paged in 4 KiB at a time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from backsplit.config import Config, Files, NnUNet, Threshold
from backsplit.segment.base import Segmenter
from backsplit.segment.files import FilesSegmenter
from backsplit.segment.nnunet import NnUNetSegmenter
from backsplit.segment.threshold import ThresholdSegmenter
from backsplit.segment.totalsegmentator import TotalSegmentatorSegmenter


def build(config: Config, name: str) -> Segmenter:
    """Make the segmenter of that name; opens no weights yet."""
    segmenter = config.segmenters[name]
    if isinstance(segmenter, Files):
        return FilesSegmenter(segmenter, config)
    if isinstance(segmenter, Threshold):
        return ThresholdSegmenter(segmenter, config.dataset)
    if isinstance(segmenter, NnUNet):
        return NnUNetSegmenter(segmenter, config.dataset, config.run)
    return TotalSegmentatorSegmenter(segmenter, config.dataset, config.run)
