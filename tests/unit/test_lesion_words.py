"""One list of words tells lesions from anatomy."""

from __future__ import annotations

import pytest

from backsplit.config.base import words
from backsplit.config.lesion_words import is_lesion

LESIONS = """
GTVp GTVn GTV-1 gtv-pre-op gtvp1 GTVnd PTV56 ctv gallstone kidney_stone stones calculi PDAC HCC
lymph_node Lymphnode lymph-nodes LN_3 thrombus thrombi embolus emboli pulmonary_embolism polyp
nodule lung_nodules plaque haemorrhage hemorrhages infarct aneurysm TumorCore livertumor brain_mets
nonenhancing metastases kidney_cyst_left cysts adrenal_masses2 pleural_effusion edema oedema
necrotic_core ischemic_core Whole_tumor pancreatic_lesion Stroke
"""
ANATOMY = """
kidney liver masseter metatarsal cystic_duct sa_node av-node nasopharynx larynx pancreas stomach
vertebrae_L1 brain lung_upper_lobe_left plantar autochthon_left gland prostate sternum
"""


@pytest.mark.parametrize("name", LESIONS.split())
def test_words_for_disease(name):
    assert is_lesion(name)


@pytest.mark.parametrize("name", ANATOMY.split())
def test_anatomy_is_no_disease(name):
    assert not is_lesion(name)


@pytest.mark.parametrize("name", ["LeftKidney", "left_kidney", "left-kidney2", "LEFT KIDNEY"])
def test_words_of_a_name(name):
    assert words(name) == ["left", "kidney"]
