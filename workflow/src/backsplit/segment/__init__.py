"""Who labels anatomy: one module per kind of segmenter."""

from __future__ import annotations

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
        return FilesSegmenter(segmenter, config.dataset)
    if isinstance(segmenter, Threshold):
        return ThresholdSegmenter(segmenter, config.dataset)
    if isinstance(segmenter, NnUNet):
        return NnUNetSegmenter(segmenter, config.dataset, config.run.device)
    return TotalSegmentatorSegmenter(segmenter, config.dataset, config.run.device)
