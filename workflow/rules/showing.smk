# Results to look at, which take seconds: trials (one line per victim), tables, figures and report, of the whole study
# or of the victims finished so far; the page of a scan. One rule draws every figure; its wildcard names the figure and
# its attack.

for stage in (
    "trials",
    "tables",
    "paper_table",
    "ablation",
    "transfer_table",
    "figure",
    "page",
    *(["scan_page"] if graph.scanning else []),
):

    rule:
        name:
            stage
        input:
            unpack(inputs(stage)),
        output:
            **outputs(stage),
        log:
            log_of(stage),
        wildcard_constraints:
            **({"scope": NOTHING} if stage == "transfer_table" and not study.transfer else {}),
        localrule: True
        conda:
            "../../envs/conda.yaml"
        params:
            settings=settings(stage),
            code=code(stage),
            command=command(stage),
        shell:
            "{params.command} > {log:q} 2>&1"
