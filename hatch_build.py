"""The workflow goes into the wheel, in the form that it has here.

An editable installation needs no copy: the package finds the workflow in its checkout.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WORKFLOW = (
    "Snakefile",
    "config",
    "envs",
    "profiles",
    "rules",
    "workflow/Snakefile",
    "workflow/report",
)


class Workflow(BuildHookInterface[Any]):
    """Adds the workflow's files to a wheel; `backsplit.store.source` finds them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them unless the installation is editable."""
        if version == "standard":
            build_data["force_include"] |= {
                name: f"backsplit/snakemake/{name}" for name in WORKFLOW
            }
