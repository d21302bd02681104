# What every image, metric, table and figure comes from, in one file.


localrules:
    record_provenance,


SECTIONS["lineage"] = lineage()


rule record_provenance:
    input:
        products=SHOWN,
        lineage=f"{R}/config/lineage.json",
    output:
        f"{R}/provenance.json",
    log:
        f"{R}/logs/record_provenance.log",
    conda:
        "../envs/harness.yaml"
    params:
        run=lambda wildcards: R,
        products=[path.removeprefix(f"{R}/") for path in SHOWN],
    message:
        "Recording what everything was made from"
    shell:
        "python -m workflow.scripts.provenance --run {params.run} --lineage {input.lineage}"
        " --products {params.products} --out {output} > {log} 2>&1"
