"""Lay facts out as HTML that needs no network and runs nothing but our own script."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

NARROW_SPACE = "\u202f"

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow, not even escaped."""


def page(template: str, style: str, script: str, **facts: Any) -> str:  # noqa: ANN401
    """Lay facts out as one HTML page with its style, its script and the policy that names both.

    Parameters
    ----------
    template, style, script : templates of this package; style and script see the facts, too, and
        must print nothing of them but numbers and colours of our own
    facts : what the templates print; everything is escaped
    """
    environment = templates()
    css = environment.get_template(style).render(**facts)
    code = environment.get_template(script).render()
    return environment.get_template(template).render(
        # both come from our own files, with numbers and colours of our own making in them
        style=Markup(css),  # noqa: S704
        script=Markup(code),  # noqa: S704
        policy=_policy(css, code),
        **facts,
    )


def drawing(template: str, **facts: Any) -> str:  # noqa: ANN401
    """Lay facts out as SVG, without what XML can not hold."""
    return _NOT_XML.sub("\ufffd", templates().get_template(template).render(**facts))


def templates_digest() -> str:
    """SHA-256 of all templates: what they make is made anew when one changes."""
    texts = [
        entry.read_bytes()
        for entry in sorted(
            resources.files("backsplit.report.templates").iterdir(), key=lambda e: e.name
        )
        if entry.name.endswith(".j2")
    ]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


@cache
def templates() -> jinja2.Environment:
    """The templates of this package with the filters that they use."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("backsplit", "report/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"ml": ml, "count": count, "number": number, "share": share, "decimal": decimal}
    environment.filters |= filters
    return environment


def _policy(style: str, script: str) -> str:
    """Content security policy: nothing is fetched; no style or script runs but ours."""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'"
    )


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def ml(volume: float) -> str:
    """Volume with as many digits as mean something: `0.052`, `3.41`, `27.3`, `1 480`."""
    if math.isnan(volume):
        return "–"
    if volume == 0:
        return "0"
    if volume < 0.0005:
        return "< 0.001"
    digits = 3 if volume < 1 else 2 if volume < 10 else 1 if volume < 1000 else 0
    return f"{volume:,.{digits}f}".replace(",", NARROW_SPACE)


def count(whole: float) -> str:
    """Whole number with narrow spaces between thousands."""
    return f"{int(whole):,}".replace(",", NARROW_SPACE)


def number(value: float) -> str:
    """Intensity with three digits, or a dash."""
    if math.isnan(value):
        return "–"
    if value and abs(value) < 10:
        return f"{value:.3g}".replace("-", "−")
    return f"{value:,.0f}".replace(",", NARROW_SPACE).replace("-", "−")


def decimal(value: float) -> str:
    """Number with one decimal, or a dash."""
    return "–" if math.isnan(value) else f"{value:.1f}".replace("-", "−")


def share(part: float, whole: float) -> str:
    """Per cent, or a dash of nothing."""
    return "–" if not whole or math.isnan(part) else f"{100 * part / whole:.1f} %"
