# The dataset: read or drawn once, so that no other job depends on where it came from.


rule dataset:
    input:
        files=dataset_files(),
    output:
        dataset=DATASET,
    log:
        f"{LOG}/dataset.log",
    conda:
        "../../envs/conda.yaml"
    params:
        *fixed(dataset_spec()),
        *dataset_code(),
        spec=told(lambda wildcards: dataset_spec()),
    shell:
        "python workflow/scripts/dataset.py --spec {params.spec} --dataset {output.dataset:q}"
        " > {log:q} 2>&1"
