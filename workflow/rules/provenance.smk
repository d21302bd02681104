# What every image, metric, table and figure comes from, in one file.


localrules:
    record_provenance,


rule record_provenance:
    input:
        tables=plan.tables,
        figures=plan.figures,
    output:
        plan.path.provenance,
    log:
        plan.path.log("record_provenance"),
    conda:
        "../envs/harness.yaml"
    params:
        lineage=plan.untracked(plan.path.lineage),
        run=plan.untracked(plan.path.folder),
    message:
        "Recording what everything was made from"
    shell:
        "python -m workflow.provenance --run {params.run} --lineage {params.lineage} --products {input.tables} {input.figures}"
        " --out {output} > {log} 2>&1"
