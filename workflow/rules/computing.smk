# The stages that compute, one job per expensive unit.


# The dataset, read or drawn once: no other job depends on its source.
rule dataset:
    input:
        unpack(inputs("dataset")),
    output:
        **outputs("dataset"),
    log:
        log_of("dataset"),
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("dataset"),
        code=code("dataset"),
        command=command("dataset"),
    shell:
        "{params.command} > {log:q} 2>&1"


# The attacker's surrogates, trained on clean data: one, or an ensemble, per seed.
rule pretrain:
    input:
        unpack(inputs("pretrain")),
    output:
        **outputs("pretrain"),
    log:
        log_of("pretrain"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("pretrain"),
        code=code("pretrain"),
        command=command("pretrain"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule pretrained:
    input:
        placed(graph.pretrained()),
    localrule: True


# Poisons: one set per attack and seed.
rule craft:
    input:
        unpack(inputs("craft")),
    output:
        **outputs("craft"),
    log:
        log_of("craft"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("craft"),
        code=code("craft"),
        command=command("craft"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule poisons:
    input:
        placed(graph.poisons()),
    localrule: True


# Dilution: poison sets of rows whose defenders have some of the images clean.
rule dilute:
    input:
        unpack(inputs("dilute")),
    output:
        **outputs("dilute"),
    log:
        log_of("dilute"),
    wildcard_constraints:
        defense=one_of(row.name for row in study.rows if row.dilution),
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("dilute"),
        code=code("dilute"),
        command=command("dilute"),
    shell:
        "{params.command} > {log:q} 2>&1"


# Filters: they choose the examples that a row keeps, by the features of a network that another job trained.
rule filter:
    input:
        unpack(inputs("filter")),
    output:
        **outputs("filter"),
    log:
        log_of("filter"),
    wildcard_constraints:
        defense=one_of(row.name for row in study.rows if row.filters),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("filter"),
        code=code("filter"),
        command=command("filter"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule filters:
    input:
        placed(graph.paths("filter", "keep")),
    localrule: True


# Friendly noise: one file per cell that uses it.
rule noise:
    input:
        unpack(inputs("noise")),
    output:
        **outputs("noise"),
    log:
        log_of("noise"),
    wildcard_constraints:
        defense=one_of(row.name for row in study.rows if row.friendly),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("noise"),
        code=code("noise"),
        command=command("noise"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule noises:
    input:
        placed(graph.paths("noise", "noise")),
    localrule: True


# Victims: one per cell.
rule train:
    input:
        unpack(inputs("train")),
    output:
        **outputs("train"),
    log:
        log_of("train"),
    wildcard_constraints:
        defense=one_of(row.name for row in study.rows if not row.detector),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("train"),
        code=code("train"),
        command=command("train"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule victims:
    input:
        placed(graph.paths("train", "weights")),
    localrule: True


# Detectors: they examine the finished victim of another row.
rule detect:
    input:
        unpack(inputs("detect")),
    output:
        **outputs("detect"),
    log:
        log_of("detect"),
    wildcard_constraints:
        defense=one_of(row.name for row in study.rows if row.detector),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("detect"),
        code=code("detect"),
        command=command("detect"),
    shell:
        "{params.command} > {log:q} 2>&1"


# Clean networks that are shown poisons.
rule transfer:
    input:
        unpack(inputs("transfer")),
    output:
        **outputs("transfer"),
    log:
        log_of("transfer"),
    wildcard_constraints:
        attack=one_of(study.transfer.attacks if study.transfer else []),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("transfer"),
        code=code("transfer"),
        command=command("transfer"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule detections:
    input:
        placed(graph.paths("detect", "metrics")),
    localrule: True
