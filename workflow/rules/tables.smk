# Tables: every victim's outcome, with intervals and paired tests.

CELLS = [
    dict(attack=attack, defense=row.name, seed=seed)
    for attack in ATTACKS
    for row in study.defenses
    for seed in SEEDS
]
NOISE_CELLS = [cell for cell in CELLS if study.defense(cell["defense"]).friendly is not None]


rule tables:
    input:
        metrics=[expand(rules.train.output.metrics, **cell) for cell in CELLS],
        cards=[expand(rules.train.output.card, **cell) for cell in CELLS],
        noise_cards=[expand(rules.noise.output.card, **cell) for cell in NOISE_CELLS],
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
        " --csv {output.csv:q} --md {output.md:q} --tex {output.tex:q} --time {output.time:q}"
        " > {log:q} 2>&1"


rule results:
    input:
        rules.tables.output,
