# What every image, metric and table comes from, in one file.
TABLES = [
    f"tables/{name}.csv"
    for name in ("table1", "table2", "distances", "adherence", "significance", "cost")
]


localrules:
    record_provenance,


rule record_provenance:
    input:
        samples=expand(
            f"{R}/samples/{{method}}/test/{{shard}}.zip", method=ORDERED, shard=shards("test")
        ),
        layouts=expand(f"{R}/layouts/test/{{shard}}.jsonl", shard=shards("test")),
        metrics=expand(f"{R}/metrics/{{method}}/test.json", method=ORDERED),
        specs=expand(
            f"{R}/methods/{{method}}.json", method=[row for row in ORDERED if row != "real"]
        ),
        config=expand(f"{R}/config/{{section}}.json", section=["data", "extractors"]),
        products=[f"{R}/{name}" for name in (*TABLES, "figures/panel.png")],
    output:
        f"{R}/provenance.json",
    log:
        f"{R}/logs/record_provenance.log",
    conda:
        "../envs/harness.yaml"
    params:
        run=lambda wildcards: R,
        methods=ORDERED,
        shards=len(shards("test")),
        products=[*TABLES, "figures/panel.png"],
    message:
        "Recording what everything was made from"
    shell:
        "python -m workflow.scripts.provenance --run {params.run} --methods {params.methods} --shards {params.shards}"
        " --products {params.products} --out {output} > {log} 2>&1"
