"""Which names of labels and files mean a lesion; the one list of such words."""

from __future__ import annotations

import re

from backsplit.config.base import words

_WORDS = (
    r"lesions?|tumou?rs?|neoplasms?|neoplasia|neoplastic|malignan\w*|metasta\w+|mets?"
    r"|cancers?|\w*carcinomas?|\w*sarcomas?|lymphomas?|melanomas?|\w*gliomas?|\w*blastomas?"
    r"|meningiomas?|\w*adenomas?|schwannomas?|pdac|hcc|nsclc|ipmn|pnet"
    r"|[gcpi]tv([npt]\w?)?"
    r"|mass(es)?|nodules?|polyps?|cysts?|abscess(es)?"
    r"|(gall|kidney|bladder)?stones?|calcul(us|i)|\w*lithiasis|plaques?"
    r"|thromb(us|i|os[ei]s|otic)|embol(us|i|ism)|infarct\w*|strokes?|ischa?emi[ac]"
    r"|(micro)?ha?emorrhages?|ha?ematomas?|bleed(ing|s)?|aneurysms?"
    r"|effusions?|o?edemas?|necro\w+|\w*enhancing|ncr|netc|snfh"
    r"|nodes?|lymphnodes?|ln"
)
"""Words for disease, each as a whole word. Lymph nodes are among them: who draws them in a lesion
data set looks for metastases; anatomical nodes are of the heart (`sa_node`)."""

_WITHIN = (
    r"tumou?r|lesion|cancer|metasta[st]|neoplas|malignan|nodule|sarcoma|lymphoma"
    r"|aneurysm|ha?emorrhag|infarct|(gall|kidney)stone|effusion"
)
"""Words that mean disease within a longer one as well: `livertumor`, `nonenhancing`."""

_LESION = re.compile(_WORDS)
_PART = re.compile(_WITHIN)
_HEART = {"av", "sa", "sinoatrial", "atrioventricular"}


def is_lesion(name: str) -> bool:
    """Whether a name says disease rather than anatomy: `GTVp`, `kidney_cyst_left`, `brain_mets`.

    Words are told apart by other characters than letters and by capitals (`TumorCore`), so that
    `masseter`, `metatarsal` and `cystic_duct` are anatomy.
    """
    found = words(name)
    if set(found) & _HEART:
        found = [word for word in found if word not in ("node", "nodes")]
    return any(_LESION.fullmatch(word) or _PART.search(word) for word in found)
