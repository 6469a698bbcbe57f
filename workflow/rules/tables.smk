# Trials (one line per victim) and tables, of the whole study or of the victims that stand so far.


rule trials:
    input:
        unpack(inputs("trials")),
    output:
        **outputs("trials"),
    log:
        log_of("trials"),
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("trials"),
        code=code("trials"),
        command=command("trials"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule tables:
    input:
        unpack(inputs("tables")),
    output:
        **outputs("tables"),
    log:
        log_of("tables"),
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("tables"),
        code=code("tables"),
        command=command("tables"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule paper_table:
    input:
        unpack(inputs("paper_table")),
    output:
        **outputs("paper_table"),
    log:
        log_of("paper_table"),
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("paper_table"),
        code=code("paper_table"),
        command=command("paper_table"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule ablation:
    input:
        unpack(inputs("ablation")),
    output:
        **outputs("ablation"),
    log:
        log_of("ablation"),
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("ablation"),
        code=code("ablation"),
        command=command("ablation"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule transfer_table:
    input:
        unpack(inputs("transfer_table")),
    output:
        **outputs("transfer_table"),
    log:
        log_of("transfer_table"),
    wildcard_constraints:
        scope=r"|-so-far" if study.transfer else NOTHING,
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("transfer_table"),
        code=code("transfer_table"),
        command=command("transfer_table"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule results:
    input:
        placed(graph.tables.every("")),
    localrule: True
