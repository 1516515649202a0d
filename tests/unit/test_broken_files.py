"""Two thousand damaged volumes: each is read or refused with a code, soon, and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from backsplit.cases.check import check_cases
from backsplit.cases.table import Case
from backsplit.config.model import Config
from backsplit.config.slices import checking
from backsplit.errors import CaseError
from backsplit.volume import read_geometry
from support.mutations import broken, sound

RANDOM = 700
"""Random damages beside the some 300 chosen ones, for an image and for a lesion."""

SECONDS = 20
GIGABYTES = 6
"""Above what the libraries reserve at their import."""


def attack(folder: Path) -> None:
    """Check every damaged file, as image and as lesion; prints what came of it. Runs on its own:
    a library that crashes takes its process along."""
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))
    rng = np.random.default_rng(0)
    image = np.full((12, 12, 12), -1000, np.int16)
    image[2:10, 2:10, 2:10] = 40 + rng.integers(-20, 20, (8, 8, 8))
    lesion = np.zeros((12, 12, 12), np.int16)
    lesion[4:6, 4:6, 4:6] = 1
    good = {"image": folder / "image.nii", "lesion": folder / "lesion.nii"}
    good["image"].write_bytes(sound(image))
    good["lesion"].write_bytes(sound(lesion))
    config = Config.model_validate(
        {
            "dataset": {"name": "Broken", "id": 1, "cases": str(folder / "cases.tsv")},
            "targets": {"tumor": 1},
            "segmenters": {"tissue": {"kind": "threshold", "bands": {"soft": [0, 100]}}},
            "structures": {"soft": "tissue/soft"},
        }
    )
    codes: Counter[str] = Counter()
    for role, values in (("image", image), ("lesion", lesion)):
        for what, ending, data in broken(values, 1, RANDOM):
            (folder / "last").write_text(f"{role}: {what}{ending}")
            paths = {**good, role: folder / f"broken{ending}"}
            paths[role].write_bytes(data)
            columns = {"case": "a", "image_ct": str(paths["image"]), "lesion": str(paths["lesion"])}
            lesions = {"lesion": paths["lesion"]}
            case = Case("a", 2, {"ct": paths["image"]}, lesions, columns, folder)
            signal.alarm(SECONDS)  # its default ends the process
            _, (checked,) = check_cases([case], [case], checking(config), case.folder, threads=1)
            signal.alarm(0)
            codes[checked.code or "ok"] += 1
            if "INTERNAL" in checked.code:
                sys.exit(f"{role}: {what}{ending}: {checked.message}")
    (folder / "last").unlink()
    print(json.dumps(codes))


@pytest.mark.slow
def test_no_damaged_file_crashes_hangs_or_takes_all_memory(tmp_path):
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]}"
        "; from pathlib import Path; from test_broken_files import attack"
        f"; attack(Path({str(tmp_path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = tmp_path / "last"
    where = last.read_text() if last.exists() else ""
    assert done.returncode == 0, f"{where} (exit {done.returncode}): {done.stderr[-2000:]}"
    codes = json.loads(done.stdout.splitlines()[-1])
    print(codes)
    assert sum(codes.values()) >= 2000
    assert {"ok", "FILE_UNREADABLE", "SPACING_INVALID", "ORIENTATION_AMBIGUOUS"} <= set(codes)
    written = {path.name for path in tmp_path.iterdir()}
    ours = {"image.nii", "lesion.nii", "broken.nii", "broken.nii.gz", "broken.nrrd", "broken.mha"}
    assert written == ours  # nothing else was written


HEADER = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nspace: left-posterior-superior\n"


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.nrrd", HEADER + "x" * 50000 + "\n\n", "more than 10000 bytes"),
        ("a.nrrd", HEADER + "encoding: ascii\n\n", "encoding 'ascii'"),
        ("a.nhdr", HEADER + "data file: ../secret.raw\n\n", "not next to it"),
        ("a.nhdr", HEADER + "data file: /etc/passwd\n\n", "not next to it"),
        ("a.mhd", "NDims = 3\nElementDataFile = ..\\secret.raw\n", "not next to it"),
        ("a.nrrd", HEADER + "# a comment\n" * 60_000, "without an end"),
    ],
)
def test_headers_that_itk_must_not_see_are_refused(tmp_path, name, text, word):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(CaseError, match=word) as error:
        read_geometry(path)
    assert error.value.code == "FILE_UNREADABLE"
