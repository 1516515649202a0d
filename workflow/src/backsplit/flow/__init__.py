"""The stages on a data set's folder: what each verb reads, does and writes."""

from backsplit.flow.batches import cases, check, compose, compose_unrestricted, measure, segment
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
