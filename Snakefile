"""The workflow, where Snakemake looks first; it stands in workflow/Snakefile."""


include: "workflow/Snakefile"


# What is included names no default target.
workflow.default_target = "all"
