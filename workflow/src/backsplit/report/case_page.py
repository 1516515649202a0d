"""The pages of single cases: drawn only for those to look at, and only when something changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backsplit.cases.table import Case
from backsplit.config.model import Config
from backsplit.errors import CaseError, Code
from backsplit.report.case_facts import PageFacts
from backsplit.report.pictures.case import CaseArtist, CaseView
from backsplit.report.render import ml, page, templates_digest
from backsplit.scheme.colours import FILL
from backsplit.scheme.scheme import Classes, Scheme
from backsplit.store import versions
from backsplit.store.disk import atomic_path
from backsplit.store.provenance import digest
from backsplit.store.results import Results, sidecar_path
from backsplit.store.sidecars import MeasureSidecar, PageDetails, read_sidecar
from backsplit.work.batch import attempt


class PageStage:
    """Pages of the cases to look at.

    What a page shows is what was measured: it is drawn again when the fingerprint of the case's
    measures is another one (image, label map, those of the segmenters, names), or what the tables
    say of the case. No volume is opened to find that out.

    Parameters
    ----------
    config : the configuration
    scheme : names and ids
    classes : what each segmenter can label
    facts : what the pages say, by case
    threads : cases drawn at the same time; reading and encoding let go of the interpreter
    """

    name = "pages"

    def __init__(
        self,
        config: Config,
        scheme: Scheme,
        classes: Mapping[str, Classes],
        facts: Mapping[str, PageFacts],
        threads: int,
    ) -> None:
        self.results = config.results
        self.artist = CaseArtist(config, scheme, classes)
        self.facts = facts
        self.threads = threads
        self.templates = templates_digest()

    def outputs(self, case: Case) -> Mapping[str, Path]:
        """The page."""
        return {"page": self.results.pages.output(case.id)}

    def made_from(self, case: Case) -> Mapping[str, Any]:
        """What was measured, and what the tables say of the case."""
        measured = self.results.measures.sidecar(case.id)
        try:
            fingerprint = read_sidecar(measured, MeasureSidecar).fingerprint
        except (OSError, ValueError):
            raise CaseError(
                Code.FILE_MISSING, f"{measured} cannot be read", "run `backsplit measure` first"
            ) from None
        return {
            "stage": "pages",
            "version": versions.PAGE,
            "templates": self.templates,
            "inputs": {"measures": fingerprint, "tables": digest(self.facts[case.id].plain())},
        }

    def work(self, cases: Sequence[Case]) -> Iterator[tuple[Case, PageDetails | CaseError]]:
        """Draw so many cases at a time, each held in memory only while it is drawn."""
        pool = ThreadPoolExecutor(self.threads)
        try:
            drawn = {pool.submit(attempt, case, self._write): case for case in cases}
            for finished in as_completed(drawn):
                yield drawn[finished], finished.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _write(self, case: Case) -> PageDetails:
        facts = self.facts[case.id]
        text = render(facts, self.artist.draw(case, facts.lesions))
        output = self.outputs(case)["page"]
        with atomic_path(output) as temporary:
            temporary.write_text(text, "utf-8")
        return PageDetails(bytes=len(text))


def render(facts: PageFacts, view: CaseView) -> str:
    """Lay a case out as HTML.

    Parameters
    ----------
    facts : what the page says
    view : what its viewer shows
    """
    return page(
        "case.html.j2",
        "case.css.j2",
        "case.js.j2",
        facts=facts,
        view=view,
        structures=view.legend,
        opacity=round(100 * FILL),
        findings=[*_lesions(facts, view), *_flagged(facts, view)],
    )


@dataclass(frozen=True)
class Finding:
    """What a reader is led to: values of a layer, or one lesion of them."""

    name: str
    words: str
    layer: int
    values: Sequence[int]
    lesion: int | None = None


def _flagged(facts: PageFacts, view: CaseView) -> Iterator[Finding]:
    """What the flags speak of, as far as it can be seen."""
    for subject in facts.subjects:
        for number, layer in enumerate(view.layers):
            values = layer.values_of(subject)
            if values:
                words = facts.about(subject)[0].words
                yield Finding(subject, words, number, values)


def _lesions(facts: PageFacts, view: CaseView) -> Iterator[Finding]:
    for lesion in facts.lesions:
        values = view.layers[0].values_of(lesion.target)
        if values and lesion.instance in view.lesions:
            host = f"in {lesion.host}" if lesion.host else "in no organ"
            words = f"{ml(lesion.volume_ml)} ml, {lesion.max_diameter_mm:.1f} mm, {host}"
            name = f"Lesion {lesion.instance}: {lesion.target}"
            yield Finding(name, words, 0, values, lesion.instance)


def remove_others(results: Results, cases: Sequence[str]) -> list[Path]:
    """Remove pages of cases that are no longer to be looked at.

    Parameters
    ----------
    results : folder of all outputs
    cases : ids that keep their pages
    """
    kept = {results.pages.output(case) for case in cases}
    removed = [path for path in results.pages.outputs() if path not in kept]
    for path in removed:
        path.unlink()
        sidecar_path(path).unlink(missing_ok=True)
    return removed
