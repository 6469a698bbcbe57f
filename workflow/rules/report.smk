# One HTML page with all tables, figures and their findings in numbers, of the whole study or of the victims that stand so far.


rule page:
    input:
        unpack(inputs("page")),
    output:
        **outputs("page"),
    log:
        log_of("page"),
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("page"),
        code=code("page"),
        command=command("page"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule report:
    input:
        placed(graph.report()),
    localrule: True


rule so_far:
    input:
        placed(graph.tables.every("-so-far")),
        placed(graph.report("-so-far")),
    localrule: True
