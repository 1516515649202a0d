"""Who labels anatomy: one module per kind of segmenter."""

from __future__ import annotations

import os
from importlib import import_module

# Torch asks the kernel for large pages if told so before it is imported: a third less time on a
# CPU, where a sliding window's buffers are otherwise paged in 4 KiB at a time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from backsplit.config.model import Config
from backsplit.config.slices import labelling
from backsplit.segment.base import Segmenter


def build(config: Config, name: str) -> Segmenter:
    """Make the segmenter of that name; opens no weights yet.

    The module that bears the name of its kind makes it. It is imported here: every verb asks
    segmenters for their classes, and should not wait for the libraries of those that the
    configuration has not.
    """
    section = config.segmenters[name]
    module = import_module(f"backsplit.segment.{section.kind}")
    segmenter: Segmenter = module.build(section, labelling(config, name), config.run)
    return segmenter
