# Trials (one line per victim), and tables: every outcome with intervals and paired tests.

# A study of thousands of rows has more settings than a command line may: they reach the program through a pipe.
GATHER = (
    "printf '%s\\0' {params.spec} |"
    " python workflow/scripts/trials.py --spec - {params.folders:q} {params.merge:q}"
    " --trials {output.trials:q} > {log:q} 2>&1"
)


rule trials:
    input:
        files=[path for cell in LOCAL_CELLS for path in gathered(cell)],
        merge=list(study.merge),
    output:
        trials=f"{TABLE}-trials.csv",
    log:
        f"{LOG}/trials.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *fixed(trials_spec(LOCAL_CELLS, outcome_settings)),
        *code_digests("workflow/scripts/trials.py"),
        spec=told(lambda wildcards: trials_spec(LOCAL_CELLS, outcome_settings)),
        folders=lambda wildcards, threads: FOLDERS,
        merge=given("merge"),
    shell:
        GATHER


rule tables:
    input:
        trials=rules.trials.output.trials,
        merge=list(study.merge),
        reference=sorted(map(str, Path("reference").glob("*.csv"))),
    output:
        csv=f"{TABLE}.csv",
        md=f"{TABLE}.md",
        tex=f"{TABLE}.tex",
        time=f"{TABLE}-time.md",
    log:
        f"{LOG}/tables.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *fixed(tables_spec()),
        *code_digests("workflow/scripts/tables.py"),
        spec=told(lambda wildcards: tables_spec()),
    shell:
        "printf '%s\\0' {params.spec} |"
        " python workflow/scripts/tables.py --spec - --reference reference"
        " --trials {input.trials:q} {input.merge:q}"
        " --csv {output.csv:q} --md {output.md:q} --tex {output.tex:q} --time {output.time:q}"
        " > {log:q} 2>&1"


# What a running or broken-off study has to show. Its victims are no inputs here, so none of them is made or remade; those whose
# card names other settings than the config's are refused by name.
STANDING = standing_cells()
STANDING_FILES = digest_of(
    [f"{path}@{os.stat(path).st_mtime_ns}" for cell in STANDING for path in gathered(cell)]
)


rule trials_so_far:
    input:
        merge=list(study.merge),
    output:
        trials=f"{TABLE}-so-far-trials.csv",
    log:
        f"{LOG}/trials-so-far.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        STANDING_FILES,
        *code_digests("workflow/scripts/trials.py"),
        spec=told(lambda wildcards: trials_spec(STANDING, lambda pair: None)),
        folders=lambda wildcards, threads: FOLDERS,
        merge=given("merge"),
    shell:
        GATHER


use rule tables as tables_so_far with:
    input:
        trials=rules.trials_so_far.output.trials,
        merge=list(study.merge),
        reference=sorted(map(str, Path("reference").glob("*.csv"))),
    output:
        csv=f"{TABLE}-so-far.csv",
        md=f"{TABLE}-so-far.md",
        tex=f"{TABLE}-so-far.tex",
        time=f"{TABLE}-so-far-time.md",
    log:
        f"{LOG}/tables-so-far.log",


# The paper's tables in its own layout, for which the study has results, and one defense with some of its settings varied: of the
# whole study and of what there is. A rule for each, because their params differ in number.
for number, whole in itertools.product(PAPER_TABLES, (True, False)):

    rule:
        name:
            f"paper_table{number}{'' if whole else '_so_far'}"
        input:
            trials=(rules.trials if whole else rules.trials_so_far).output.trials,
            merge=list(study.merge),
            reference=sorted(map(str, Path("reference").glob("*.csv"))),
        output:
            **{kind: paper_table(number, kind, whole) for kind in TEXTS},
        log:
            f"{LOG}/paper_table{number}{'' if whole else '-so-far'}.log",
        localrule: True
        conda:
            "../../envs/conda.yaml"
        params:
            *fixed(paper_table_spec(number)),
            *code_digests("workflow/scripts/paper_table.py"),
            spec=told(lambda wildcards, number=number: paper_table_spec(number)),
        shell:
            "printf '%s\\0' {params.spec} |"
            " python workflow/scripts/paper_table.py --spec - --reference reference"
            " --trials {input.trials:q} {input.merge:q}"
            " --csv {output.csv:q} --md {output.md:q} --tex {output.tex:q}"
            " > {log:q} 2>&1"


for ablation, whole in itertools.product(study.ablations, (True, False)):

    rule:
        name:
            f"ablation_{re.sub('[^a-z0-9]', '_', ablation.name)}{'' if whole else '_so_far'}"
        input:
            trials=(rules.trials if whole else rules.trials_so_far).output.trials,
            merge=list(study.merge),
        output:
            **{kind: ablation_table(ablation.name, kind, whole) for kind in TEXTS},
        log:
            f"{LOG}/ablation/{ablation.name}{'' if whole else '-so-far'}.log",
        localrule: True
        conda:
            "../../envs/conda.yaml"
        params:
            *fixed(ablation_spec(ablation)),
            *code_digests("workflow/scripts/ablation.py"),
            spec=told(lambda wildcards, ablation=ablation: ablation_spec(ablation)),
        shell:
            "printf '%s\\0' {params.spec} |"
            " python workflow/scripts/ablation.py --spec - --trials {input.trials:q} {input.merge:q}"
            " --csv {output.csv:q} --md {output.md:q} --tex {output.tex:q}"
            " > {log:q} 2>&1"


rule results:
    input:
        rules.tables.output,
        every_table(True),
