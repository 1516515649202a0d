"""The stages on a data set's folder: what each verb reads, does and writes."""

from backsplit.flow.batches import cases, check, compose, compose_unrestricted, measure, segment
from backsplit.flow.dataset import export, judge, manifest, pages, report, retry, status

__all__ = [
    "cases",
    "check",
    "compose",
    "compose_unrestricted",
    "export",
    "judge",
    "manifest",
    "measure",
    "pages",
    "report",
    "retry",
    "segment",
    "status",
]
