# One HTML file with all tables, figures and what they say in numbers; of the whole study, or of what there is.


def table_block(title, path):
    return dict(title=title, table=path)


def figure_block(title, stem):
    return dict(title=title, png=f"{stem}.png", caption=f"{stem}.txt")


def report_sections(whole):
    """Titles and files; of what there is, tables only: figures are of finished victims."""
    sections = [
        ("Outcome", outcome_blocks(whole)),
        ("Tables of the FRIENDS paper", paper_blocks(whole)),
    ]
    sections += [(f"Figures: {attack}", attack_blocks(attack)) for attack in DRAWN if whole]
    sections += [("Ablations", ablation_blocks(whole))]
    return [dict(title=title, blocks=blocks) for title, blocks in sections if blocks]


def outcome_blocks(whole):
    suffix = "" if whole else "-so-far"
    return [
        *([figure_block("All defenses at a glance", f"{FIGURE}/outcome")] if whole else []),
        table_block("Success and accuracy", f"{TABLE}{suffix}.md"),
        table_block("Time", f"{TABLE}{suffix}-time.md"),
    ]


def paper_blocks(whole):
    return [
        table_block(f"Table {number}", paper_table(number, "md", whole)) for number in PAPER_TABLES
    ]


def attack_blocks(attack):
    """The figures that ``drawings`` makes of an attack."""
    made = set(rules.drawings.input)
    stems = [(title, f"{FIGURE}/{attack}/{stem}") for stem, title in FIGURES.items()]
    return [figure_block(title, stem) for title, stem in stems if f"{stem}.png" in made]


def ablation_blocks(whole):
    blocks = []
    for ablation in study.ablations:
        if whole:
            title = f"{ablation.name}: {' and '.join(ablation.vary)}"
            blocks.append(figure_block(title, f"{FIGURE}/ablation-{ablation.name}"))
        blocks.append(
            table_block(f"{ablation.name}, in numbers", ablation_table(ablation.name, "md", whole))
        )
    return blocks


# In the paper's order.
FIGURES = {
    "examples": "Figure 1: poisons and friendly noise",
    "landscape-poison": "Figure 2: loss around one poison",
    "landscape-victims": "Figure 3: loss around all poisons",
    "noise-histogram": "Figure 4: histograms of the noise",
    "output-std": "Figure 5c: spread of the output",
    "learning-curves": "Learning curves",
}


def report_spec(sections):
    return spec(
        study=study.study,
        description=study.description,
        scale=scale_of(study, study.attacks),
        lines=table_lines(study.meetings()),
        sections=sections,
        cards=f"{VICTIM}.card.json",
        detections=f"{DETECTION}.card.json",
        detectors=[row.name for row in study.rows if row.detector is not None],
    )


def report_files(sections):
    return [
        path
        for section in sections
        for block in section["blocks"]
        for key, path in block.items()
        if key != "title"
    ]


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
        conda:
            "../../envs/conda.yaml"
        params:
            *fixed(report_spec(report_sections(whole))),
            *code_digests("workflow/scripts/report.py"),
            spec=lambda wildcards, threads, whole=whole: report_spec(report_sections(whole)),
        shell:
            "python workflow/scripts/report.py --spec {params.spec:q} --template {input.template:q}"
            " --trials {input.trials:q} {input.merge:q} --html {output.html:q} > {log:q} 2>&1"


rule so_far:
    input:
        rules.tables_so_far.output,
        every_table(False),
        rules.report_so_far.output,
