# What every image, metric, table and figure comes from, in one file.


localrules:
    record_provenance,


rule record_provenance:
    input:
        plan.tables,
        plan.figures,
    output:
        plan.path.provenance,
    log:
        plan.path.log("record_provenance"),
    conda:
        "../envs/harness.yaml"
    message:
        "Recording what everything was made from"
    shell:
        "python -m workflow.provenance --run {plan.path.folder} --lineage {plan.path.lineage} --products {input}"
        " --out {output} > {log} 2>&1"
