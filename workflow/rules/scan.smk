# A scan: the features of every image by each network, the filters' joined ranking, neighbours, and the page. Networks and planted
# poisons come from the rules that compute a study's.


rule features:
    input:
        unpack(inputs("features")),
    output:
        **outputs("features"),
    log:
        log_of("features"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("features"),
        code=code("features"),
        command=command("features"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule suspects:
    input:
        unpack(inputs("suspects")),
    output:
        **outputs("suspects"),
    log:
        log_of("suspects"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("suspects"),
        code=code("suspects"),
        command=command("suspects"),
    shell:
        "{params.command} > {log:q} 2>&1"


rule neighbours:
    input:
        unpack(inputs("neighbours")),
    output:
        **outputs("neighbours"),
    log:
        log_of("neighbours"),
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        settings=settings("neighbours"),
        code=code("neighbours"),
        command=command("neighbours"),
    shell:
        "{params.command} > {log:q} 2>&1"


if graph.scanning:

    rule scan_page:
        input:
            unpack(inputs("scan_page")),
        output:
            **outputs("scan_page"),
        log:
            log_of("scan_page"),
        localrule: True
        conda:
            "../../envs/conda.yaml"
        params:
            settings=settings("scan_page"),
            code=code("scan_page"),
            command=command("scan_page"),
        shell:
            "{params.command} > {log:q} 2>&1"


rule scan:
    input:
        placed(scanned),
    localrule: True
