# One HTML file with all tables, figures and what they say in numbers; of the whole study, or of what there is.

for whole in (True, False):

    rule:
        name:
            "report" if whole else "report_so_far"
        input:
            files=report_files(report_sections(whole)),
            trials=(rules.trials if whole else rules.trials_so_far).output.trials,
            merge=list(study.merge),
            template="workflow/report/report.html",
        output:
            html=f"{REPORT}{'' if whole else '-so-far'}.html",
        log:
            f"{LOG}/report{'' if whole else '-so-far'}.log",
        localrule: True
        conda:
            "../../envs/conda.yaml"
        params:
            *fixed(report_spec(report_sections(whole))),
            *code_digests("workflow/scripts/report.py"),
            spec=told(lambda wildcards, whole=whole: report_spec(report_sections(whole))),
        shell:
            "printf '%s\\0' {params.spec} |"
            " python workflow/scripts/report.py --spec - --template {input.template:q}"
            " --trials {input.trials:q} {input.merge:q} --html {output.html:q} > {log:q} 2>&1"


rule so_far:
    input:
        rules.tables_so_far.output,
        every_table(False),
        rules.report_so_far.output,
