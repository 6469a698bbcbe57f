# One HTML page with all tables, figures and their findings in numbers, of the whole study or of the victims that stand so far.


rule report:
    input:
        unpack(inputs("report")),
    output:
        **outputs("report"),
    log:
        log_of("report"),
    localrule: True
    conda:
        "../../envs/conda.yaml"
    params:
        settings=settings("report"),
        code=code("report"),
        command=command("report"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule so_far:
    input:
        graph.tables.every("-so-far"),
        graph.report("-so-far"),
