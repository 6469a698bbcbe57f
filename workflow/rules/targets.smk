# Names for the results of one or several stages.


rule pretrained:
    input:
        placed(graph.pretrained()),
    localrule: True


rule poisons:
    input:
        placed(graph.poisons()),
    localrule: True


rule filters:
    input:
        placed(graph.paths("filter", "keep")),
    localrule: True


rule noises:
    input:
        placed(graph.paths("noise", "noise")),
    localrule: True


rule victims:
    input:
        placed(graph.paths("train", "weights")),
    localrule: True


rule detections:
    input:
        placed(graph.paths("detect", "metrics")),
    localrule: True


rule results:
    input:
        placed(graph.tables.every("")),
    localrule: True


rule drawings:
    input:
        placed(graph.drawings()),
    localrule: True


rule report:
    input:
        placed(graph.report()),
    localrule: True


# Tables and report of the victims finished so far.
rule so_far:
    input:
        placed(graph.tables.every("-so-far")),
        placed(graph.report("-so-far")),
    localrule: True


rule scan:
    input:
        placed(scanned),
    localrule: True
