"""Write the pinned versions of this environment: constraints.txt and backsplit.yaml.

    make pins        after an upgrade that all tests have passed

constraints.txt has every package of the environment, for `pip install --constraint`. The conda
environment has what `backsplit[dicom,slurm]` needs and no more; it repeats the versions, because
Snakemake copies its file elsewhere before conda reads it, away from any file beside it.
"""

from __future__ import annotations

from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
OURSELVES = "backsplit"
LEFT = {OURSELVES, "pip"}
"""Not pinned."""

CONDA = """\
# The environment of every rule, for --sdm conda: libraries here, backsplit itself by
# backsplit.post-deploy.sh. Written by envs/pins.py. CUDA 13 comes with torch's own packages.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def needed(requirement: Requirement, found: set[tuple[str, str]]) -> None:
    """Add a requirement and all that it needs, as (package, extra of it)."""
    name = canonicalize_name(requirement.name)
    for extra in {"", *requirement.extras} - {e for package, e in found if package == name}:
        found.add((name, extra))
        for below in map(Requirement, distribution(name).requires or ()):
            if below.marker is None or below.marker.evaluate({"extra": extra}):
                needed(below, found)


def main() -> None:
    """Write both files."""
    installed = {canonicalize_name(d.name): d.version for d in distributions()}
    pins = {name: f"{name}=={installed[name]}\n" for name in sorted(installed) if name not in LEFT}
    head = "# The versions that every release is tested with: pip install -c envs/constraints.txt\n"
    (HERE / "constraints.txt").write_text(head + "".join(pins.values()), "utf-8")
    found: set[tuple[str, str]] = set()
    needed(Requirement(f"{OURSELVES}[dicom,slurm]"), found)
    closure = {name for name, _ in found}
    lines = "".join(f"      - {pin}" for name, pin in pins.items() if name in closure)
    (HERE / "backsplit.yaml").write_text(CONDA + lines, "utf-8")


if __name__ == "__main__":
    main()
