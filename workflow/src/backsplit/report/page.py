"""The report: one page that needs no network and opens from the disk."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja2
from markupsafe import Markup
from PIL import Image, features

from backsplit.config import Config
from backsplit.report.facts import CaseFacts, ReportFacts, StructureFacts
from backsplit.report.gather import gather
from backsplit.scheme import Scheme
from backsplit.volume import atomic_path

PICTURES_MOST = 400
"""Pictures on the page: about 100 kB each, and browsers grow slow beyond 50 MB."""
OVERRULED_MOST = 100
"""Rows of the table of overruled voxels; the sidecars have them all."""
LESIONS_MOST = 5000
"""Rows of the table of lesions; `lesions.parquet` has them all."""
WEBP_QUALITY = 75
NARROW_SPACE = "\u202f"


def write_report(config: Config, scheme: Scheme, output: Path) -> None:
    """Write the report from what lies in the results folder.

    Parameters
    ----------
    config : the configuration; `run.results` is read
    scheme : names and ids
    output : HTML file
    """
    facts = gather(config, scheme)
    shown = [case for case in facts.cases if case.picture is not None][:PICTURES_MOST]
    text = render(facts, _embed(shown))
    with atomic_path(output) as temporary:
        temporary.write_text(text, "utf-8")


def render(facts: ReportFacts, pictures: dict[str, str]) -> str:
    """Lay the facts out as HTML.

    Parameters
    ----------
    facts : what the page says
    pictures : case id to `data:` address
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("backsplit", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"ml": _ml, "count": _count, "number": _number, "share": _share}
    style = environment.get_template("page.css.j2").render(structures=facts.structures)
    script = environment.get_template("page.js.j2").render()
    return environment.get_template("page.html.j2").render(
        facts=facts,
        pictures=pictures,
        totals=_totals(facts.cases),
        measured=[case for case in facts.cases if case.measured],
        overruled=facts.overruled[:OVERRULED_MOST],
        lesions=facts.lesions[:LESIONS_MOST],
        columns=_columns(facts.structures),
        # both come from our own files, with colours of our own making in them
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        policy=_policy(style, script),
    )


def _policy(style: str, script: str) -> str:
    """Content security policy: nothing is fetched; no style or script runs but ours."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'"
    )


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _embed(cases: Sequence[CaseFacts]) -> dict[str, str]:
    """Turn pictures into `data:` addresses, by case; one that can not be read is left out."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        addresses = pool.map(lambda case: _data_address(case.picture), cases)
        return {case.id: address for case, address in zip(cases, addresses, strict=True) if address}


def _data_address(path: Path | None) -> str:
    """Encode a picture anew as WebP, a third of the bytes of a PNG, where Pillow can."""
    if path is None:
        return ""
    try:
        kind, data = "png", path.read_bytes()
        if features.check("webp"):
            buffer = io.BytesIO()
            with Image.open(io.BytesIO(data)) as picture:
                picture.convert("RGB").save(buffer, "WEBP", quality=WEBP_QUALITY, method=2)
            kind, data = "webp", buffer.getvalue()
    except OSError:
        return ""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _totals(cases: Sequence[CaseFacts]) -> dict[str, float]:
    """Sums over the cases for the head of the page."""
    burdens = sorted(case.lesion_ml for case in cases if case.lesion_ml > 0)
    return {
        "measured": sum(case.measured for case in cases),
        "with_lesion": len(burdens),
        "lesion_ml": sum(burdens),
        "median_ml": burdens[len(burdens) // 2] if burdens else math.nan,
        "overruled": sum(case.overruled_voxels or 0 for case in cases),
        "ignored": sum(case.ignored_voxels or 0 for case in cases),
        "pictures": sum(case.picture is not None for case in cases),
    }


def _columns(structures: Sequence[StructureFacts]) -> list[StructureFacts]:
    """Columns of the table of volumes: what at least one case holds."""
    return [structure for structure in structures if structure.cases]


def _ml(volume: float) -> str:
    """Volume with as many digits as mean something: `0.052`, `3.41`, `27.3`, `1 480`."""
    if math.isnan(volume):
        return "–"
    if volume == 0:
        return "0"
    if volume < 0.0005:
        return "< 0.001"
    digits = 3 if volume < 1 else 2 if volume < 10 else 1 if volume < 1000 else 0
    return f"{volume:,.{digits}f}".replace(",", NARROW_SPACE)


def _count(number: float) -> str:
    """Whole number with narrow spaces between thousands."""
    return f"{int(number):,}".replace(",", NARROW_SPACE)


def _number(value: float) -> str:
    """Intensity with three digits, or a dash."""
    if math.isnan(value):
        return "–"
    if value and abs(value) < 10:
        return f"{value:.3g}".replace("-", "−")
    return f"{value:,.0f}".replace(",", NARROW_SPACE).replace("-", "−")


def _share(part: float, whole: float) -> str:
    """Per cent, or a dash of nothing."""
    return "–" if not whole else f"{100 * part / whole:.1f} %"
