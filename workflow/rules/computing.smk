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


# Some stages exist for some rows or attacks only.
CONSTRAINTS = {
    "dilute": {"defense": one_of(row.name for row in study.rows if row.dilution)},
    "filter": {"defense": one_of(row.name for row in study.rows if row.filters)},
    "noise": {"defense": one_of(row.name for row in study.rows if row.friendly)},
    "train": {"defense": one_of(row.name for row in study.rows if not row.detector)},
    "detect": {"defense": one_of(row.name for row in study.rows if row.detector)},
    "transfer": {"attack": one_of(study.transfer.attacks if study.transfer else [])},
}

for stage in (
    "pretrain",  # the attacker's surrogates, trained on clean data: one, or an ensemble, per seed
    "craft",  # poisons: one set per attack and seed
    "dilute",  # poison sets of rows whose defenders have some of the images clean
    "filter",  # what a row keeps, by the features of a network that another job trained
    "noise",  # friendly noise: one file per cell that uses it
    "train",  # victims: one per cell
    "detect",  # detectors: they examine the finished victim of another row
    "transfer",  # clean networks that are shown poisons
    # What figures show. Measuring and drawing are separate: a change of looks computes nothing again.
    "landscape_poison",
    "landscape_victims",
    "output_std",
    "feature_view",
    # Of a scan: the features of every image by each network, the filters' joined ranking, and neighbours.
    "features",
    "suspects",
    "neighbours",
):

    rule:
        name:
            stage
        input:
            unpack(inputs(stage)),
        output:
            **outputs(stage),
        log:
            log_of(stage),
        wildcard_constraints:
            **CONSTRAINTS.get(stage, {}),
        conda:
            "../../envs/conda.yaml"
        # Dilution uses no network.
        threads: 1 if stage == "dilute" else study.threads
        resources:
            gpu=int(ON_GPU and stage != "dilute"),
        params:
            settings=settings(stage),
            code=code(stage),
            command=command(stage),
        shell:
            "{params.command} > {log:q} 2>&1"
