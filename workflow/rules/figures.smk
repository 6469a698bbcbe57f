# Figures. Measuring and drawing are separate rules: a change of looks recomputes nothing. One rule draws every figure; its wildcard names
# the figure, and the attack that it is of.


rule landscape_poison:
    input:
        unpack(inputs("landscape_poison")),
    output:
        **outputs("landscape_poison"),
    log:
        log_of("landscape_poison"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("landscape_poison"),
        code=code("landscape_poison"),
        command=command("landscape_poison"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule landscape_victims:
    input:
        unpack(inputs("landscape_victims")),
    output:
        **outputs("landscape_victims"),
    log:
        log_of("landscape_victims"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("landscape_victims"),
        code=code("landscape_victims"),
        command=command("landscape_victims"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule output_std:
    input:
        unpack(inputs("output_std")),
    output:
        **outputs("output_std"),
    log:
        log_of("output_std"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("output_std"),
        code=code("output_std"),
        command=command("output_std"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule feature_view:
    input:
        unpack(inputs("feature_view")),
    output:
        **outputs("feature_view"),
    log:
        log_of("feature_view"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("feature_view"),
        code=code("feature_view"),
        command=command("feature_view"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule figure:
    input:
        unpack(inputs("figure")),
    output:
        **outputs("figure"),
    log:
        log_of("figure"),
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("figure"),
        code=code("figure"),
        command=command("figure"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule drawings:
    input:
        placed(graph.drawings()),
    localrule: True
