"""The workflow, where Snakemake looks first; it is in workflow/Snakefile."""


include: "workflow/Snakefile"


# of a module, the workflow that uses it says what it makes
if workflow.modifier.is_main_snakefile():
    workflow.default_target = "all"
