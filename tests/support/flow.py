"""Every verb in one place, for tests that run several."""

from backsplit.flow.batches import compose, compose_unrestricted, measure, segment
from backsplit.flow.checking import cases, check
from backsplit.flow.dataset import export, manifest, pages, report, retry
from backsplit.flow.judging import judge, numbers_behind
from backsplit.flow.status import status

__all__ = [
    "cases",
    "check",
    "compose",
    "compose_unrestricted",
    "export",
    "judge",
    "manifest",
    "measure",
    "numbers_behind",
    "pages",
    "report",
    "retry",
    "segment",
    "status",
]
