"""Which names of labels mean a lesion; the one list of such words."""

from __future__ import annotations

import re

_DISEASE = (
    r"cysts?|tumou?rs?|lesions?|nodules?|metastas[ei]s|cancers?|carcinomas?|ha?emorrhages?"
    r"|effusions?|aneurysms?|thromb\w+|abscess(es)?|infarct\w*|gtv|ctv|ptv"
)
_MASS = r"mass(es)?"
"""Stands in other words: masseter."""

_IN_LESION_FILES = r"sarcoma|lymphoma|metasta|neoplasm|malignan|stroke|o?edema|necro|enhancing"
_METS = r"mets?"
"""Stands in other words: metatarsal."""

_CLASS = re.compile(rf"(^|[_.-])({_DISEASE}|{_MASS})($|[_.-]|\d)", re.IGNORECASE)
_LABEL = re.compile(
    rf"{_DISEASE}|{_IN_LESION_FILES}|(^|[_ .-])({_MASS}|{_METS})($|[_ .-]|\d)", re.IGNORECASE
)


def is_lesion_class(name: str) -> bool:
    """Whether a class of a segmenter is disease, not anatomy, as kidney_cyst_left is.

    A word counts where it stands alone: such a class needs a rule of its own in the configuration.
    """
    return _CLASS.search(name) is not None


def is_lesion_label(name: str) -> bool:
    """Whether a label of a lesion file is a lesion or part of one: GTVp, edema, brain_mets.

    A word counts anywhere in the name: what such files label is a lesion rather than anatomy.
    """
    return _LABEL.search(name) is not None
