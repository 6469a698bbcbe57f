# Figures: the paper's 1 to 4 and 5c, learning curves, and the outcome at a glance. Computing a landscape or a spread and drawing it
# are two rules, so that a change of looks recomputes nothing.

RANDOM_NOISES = [
    plain(defense)
    for defense in dict.fromkeys(defense for row in study.defenses for defense in row.apply)
    if defense.method == "random-noise"
]
DRAWING = {"drawing": plain(study.figures.drawing)}
LOOKS = spec(**DRAWING)
DRAWN = [attack.name for attack in study.drawn_attacks]
# Those with victims that are trained here: trials from elsewhere have no history.
TRAINED = [attack for attack in DRAWN if any(cell["attack"] == attack for cell in TRAINED_CELLS)]


rule landscape_poison:
    input:
        dataset=DATASET,
        poisons=shown_poisons,
        surrogate=lambda wildcards: expand(
            rules.pretrain.output.weights,
            surrogate=study.attack(wildcards.attack).surrogates[0],
            seed=shown_seed(wildcards),
            member=0,
        ),
    output:
        landscape=f"{FIGURE}/{{attack}}/landscape-poison.npz",
    log:
        f"{LOG}/landscape_poison/{{attack}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(program("landscape_poison"), landscape_poison_spec, landscape_poison_code),
        spec=told(landscape_poison_spec),
        where=where,
    shell:
        "python workflow/scripts/landscape_poison.py --spec {params.spec} --dataset {input.dataset:q} {params.where:q}"
        " --poisons {input.poisons:q} --surrogate {input.surrogate:q} --landscape {output.landscape:q}"
        " > {log:q} 2>&1"


rule landscape_victims:
    input:
        dataset=DATASET,
        poisons=shown_poisons,
        victims=lambda wildcards: expand(
            rules.train.output.weights,
            attack=wildcards.attack,
            defense=study.landscape_victims(wildcards.attack),
            seed=shown_seed(wildcards),
        ),
    output:
        landscape=f"{FIGURE}/{{attack}}/landscape-victims.npz",
    log:
        f"{LOG}/landscape_victims/{{attack}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(program("landscape_victims"), landscape_victims_spec, landscape_victims_code),
        spec=told(landscape_victims_spec),
        where=where,
    shell:
        "python workflow/scripts/landscape_victims.py --spec {params.spec} --dataset {input.dataset:q} {params.where:q}"
        " --poisons {input.poisons:q} --victims {input.victims:q} --landscape {output.landscape:q}"
        " > {log:q} 2>&1"


rule output_std:
    input:
        dataset=DATASET,
        poisons=shown_poisons,
        networks=lambda wildcards: [path for _, path in output_std_networks(wildcards)],
    output:
        std=f"{FIGURE}/{{attack}}/output-std.npz",
    log:
        f"{LOG}/output_std/{{attack}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(program("output_std"), output_std_spec, output_std_code),
        spec=told(output_std_spec),
        where=where,
    shell:
        "python workflow/scripts/output_std.py --spec {params.spec} --dataset {input.dataset:q} {params.where:q}"
        " --poisons {input.poisons:q} --networks {input.networks:q} --std {output.std:q}"
        " > {log:q} 2>&1"


rule figure_examples:
    input:
        poisons=shown_poisons,
        noise=shown_noise,
    output:
        pdf=f"{FIGURE}/{{attack}}/examples.pdf",
        png=f"{FIGURE}/{{attack}}/examples.png",
        caption=f"{FIGURE}/{{attack}}/examples.txt",
    log:
        f"{LOG}/figure_examples/{{attack}}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *LOOKS,
        *code_digests("workflow/scripts/figure_examples.py"),
        spec=told(lambda wildcards: LOOKS),
    shell:
        "python workflow/scripts/figure_examples.py --spec {params.spec} --poisons {input.poisons:q}"
        " --noise {input.noise:q} --pdf {output.pdf:q} --png {output.png:q} --caption {output.caption:q}"
        " > {log:q} 2>&1"


rule figure_landscape_poison:
    input:
        landscape=rules.landscape_poison.output.landscape,
    output:
        pdf=f"{FIGURE}/{{attack}}/landscape-poison.pdf",
        png=f"{FIGURE}/{{attack}}/landscape-poison.png",
        caption=f"{FIGURE}/{{attack}}/landscape-poison.txt",
    log:
        f"{LOG}/figure_landscape_poison/{{attack}}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *LOOKS,
        *code_digests("workflow/scripts/figure_landscape_poison.py"),
        spec=told(lambda wildcards: LOOKS),
    shell:
        "python workflow/scripts/figure_landscape_poison.py --spec {params.spec}"
        " --landscape {input.landscape:q} --pdf {output.pdf:q} --png {output.png:q} --caption {output.caption:q}"
        " > {log:q} 2>&1"


rule figure_landscape_victims:
    input:
        landscape=rules.landscape_victims.output.landscape,
    output:
        pdf=f"{FIGURE}/{{attack}}/landscape-victims.pdf",
        png=f"{FIGURE}/{{attack}}/landscape-victims.png",
        caption=f"{FIGURE}/{{attack}}/landscape-victims.txt",
    log:
        f"{LOG}/figure_landscape_victims/{{attack}}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *LOOKS,
        *code_digests("workflow/scripts/figure_landscape_victims.py"),
        spec=told(lambda wildcards: LOOKS),
    shell:
        "python workflow/scripts/figure_landscape_victims.py --spec {params.spec}"
        " --landscape {input.landscape:q} --pdf {output.pdf:q} --png {output.png:q} --caption {output.caption:q}"
        " > {log:q} 2>&1"


rule figure_output_std:
    input:
        std=rules.output_std.output.std,
    output:
        pdf=f"{FIGURE}/{{attack}}/output-std.pdf",
        png=f"{FIGURE}/{{attack}}/output-std.png",
        caption=f"{FIGURE}/{{attack}}/output-std.txt",
    log:
        f"{LOG}/figure_output_std/{{attack}}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *LOOKS,
        *code_digests("workflow/scripts/figure_output_std.py"),
        spec=told(lambda wildcards: LOOKS),
    shell:
        "python workflow/scripts/figure_output_std.py --spec {params.spec} --std {input.std:q}"
        " --pdf {output.pdf:q} --png {output.png:q} --caption {output.caption:q}"
        " > {log:q} 2>&1"


rule figure_noise_histogram:
    input:
        noise=shown_noise,
    output:
        pdf=f"{FIGURE}/{{attack}}/noise-histogram.pdf",
        png=f"{FIGURE}/{{attack}}/noise-histogram.png",
        caption=f"{FIGURE}/{{attack}}/noise-histogram.txt",
    log:
        f"{LOG}/figure_noise_histogram/{{attack}}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *tracked(code_digests("workflow/scripts/figure_noise_histogram.py"), histogram_spec),
        spec=told(histogram_spec),
    shell:
        "python workflow/scripts/figure_noise_histogram.py --spec {params.spec} --noise {input.noise:q}"
        " --pdf {output.pdf:q} --png {output.png:q} --caption {output.caption:q}"
        " > {log:q} 2>&1"


rule figure_learning_curves:
    input:
        metrics=lambda wildcards: these(
            rules.train.output.metrics,
            [
                cell
                for cell in TRAINED_CELLS
                if cell["attack"] == wildcards.attack and cell["defense"] in ROWS
            ],
        ),
    output:
        pdf=f"{FIGURE}/{{attack}}/learning-curves.pdf",
        png=f"{FIGURE}/{{attack}}/learning-curves.png",
        caption=f"{FIGURE}/{{attack}}/learning-curves.txt",
    log:
        f"{LOG}/figure_learning_curves/{{attack}}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *tracked(code_digests("workflow/scripts/figure_learning_curves.py"), curves_spec),
        spec=told(curves_spec),
    shell:
        "python workflow/scripts/figure_learning_curves.py --spec {params.spec}"
        " --metrics {input.metrics:q} --pdf {output.pdf:q} --png {output.png:q} --caption {output.caption:q}"
        " > {log:q} 2>&1"


rule figure_outcome:
    input:
        table=rules.tables.output.csv,
    output:
        pdf=f"{FIGURE}/outcome.pdf",
        png=f"{FIGURE}/outcome.png",
        caption=f"{FIGURE}/outcome.txt",
    log:
        f"{LOG}/figure_outcome.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *LOOKS,
        *code_digests("workflow/scripts/figure_outcome.py"),
        spec=told(lambda wildcards: LOOKS),
    shell:
        "python workflow/scripts/figure_outcome.py --spec {params.spec} --table {input.table:q}"
        " --pdf {output.pdf:q} --png {output.png:q} --caption {output.caption:q}"
        " > {log:q} 2>&1"


rule figure_ablation:
    input:
        table=ablation_table("{ablation}", "csv"),
    output:
        pdf=f"{FIGURE}/ablation-{{ablation}}.pdf",
        png=f"{FIGURE}/ablation-{{ablation}}.png",
        caption=f"{FIGURE}/ablation-{{ablation}}.txt",
    log:
        f"{LOG}/figure_ablation/{{ablation}}.log",
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        *LOOKS,
        *code_digests("workflow/scripts/figure_ablation.py"),
        spec=told(lambda wildcards: LOOKS),
    shell:
        "python workflow/scripts/figure_ablation.py --spec {params.spec} --table {input.table:q}"
        " --pdf {output.pdf:q} --png {output.png:q} --caption {output.caption:q} > {log:q} 2>&1"


rule drawings:
    input:
        rules.figure_outcome.output,
        expand(rules.figure_ablation.output, ablation=ABLATIONS),
        expand(rules.figure_learning_curves.output, attack=TRAINED),
        expand(
            rules.figure_landscape_poison.output,
            attack=[attack.name for attack in study.drawn_attacks if attack.around_poison],
        ),
        expand(
            rules.figure_landscape_victims.output,
            attack=[attack for attack in DRAWN if study.landscape_victims(attack)],
        ),
        expand(
            rules.figure_output_std.output,
            attack=[
                attack.name
                for attack in study.drawn_attacks
                if attack.surrogates or study.landscape_victims(attack.name)
            ],
        ),
        expand(
            [*rules.figure_examples.output, *rules.figure_noise_histogram.output],
            attack=[attack for attack in DRAWN if friendly_rows(attack)],
        ),
