# Tables: every victim's outcome, with intervals and paired tests.


rule tables:
    input:
        metrics=[judged(cell, "metrics") for cell in CELLS],
        cards=[judged(cell, "card") for cell in CELLS],
        noise_cards=these(rules.noise.output.card, NOISE_CELLS),
        filter_cards=these(rules.filter.output.card, FILTER_CELLS),
        reference=sorted(map(str, Path("reference").glob("*.csv"))),
    output:
        csv=report(
            f"{TABLE}.csv",
            category="Tables",
            caption="../report/table.rst",
            labels={"table": "all numbers (CSV)"},
        ),
        md=f"{TABLE}.md",
        tex=f"{TABLE}.tex",
        time=f"{TABLE}-time.md",
    log:
        f"{LOG}/tables.log",
    conda:
        "../../envs/conda.yaml"
    params:
        *fixed(tables_spec()),
        *code_digests("workflow/scripts/tables.py"),
        spec=lambda wildcards, threads: tables_spec(),
    shell:
        "python workflow/scripts/tables.py --spec {params.spec:q} --reference reference"
        " --metrics {input.metrics:q} --cards {input.cards:q} --noise-cards {input.noise_cards:q}"
        " --filter-cards {input.filter_cards:q}"
        " --csv {output.csv:q} --md {output.md:q} --tex {output.tex:q} --time {output.time:q}"
        " > {log:q} 2>&1"


rule results:
    input:
        rules.tables.output,
