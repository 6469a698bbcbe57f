# What stands in the report, in which order.


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
