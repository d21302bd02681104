# The page that people read: the tables, the figures, and every layout's images side by side.


localrules:
    write_page,


# The index comes last and stands for the folder of strips of its name.
rule cut_strips:
    input:
        layouts=f"{R}/layouts/test/{{shard}}.jsonl",
        images=expand(f"{R}/samples/{{method}}/test/{{{{shard}}}}.zip", method=ORDERED),
    output:
        f"{R}/report/strips/{{shard}}.json",
    log:
        f"{R}/logs/cut_strips/{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/cut_strips/{{shard}}.jsonl"
    priority: 4
    conda:
        "../envs/harness.yaml"
    resources:
        **needs("cut_strips"),
    params:
        samples=lambda wildcards: f"{R}/samples",
        methods=ORDERED,
    message:
        "Cutting the report's images of shard {wildcards.shard}"
    shell:
        "python -m evaluation.strips --layouts {input.layouts} --samples {params.samples}"
        " --shard {wildcards.shard} --methods {params.methods} --out {output} > {log} 2>&1"


rule write_page:
    input:
        tables=[path.replace(".csv", ".json") for path in SHOWN if path.endswith(".csv")],
        figures=[path for path in SHOWN if not path.endswith(".csv")],
        layouts=f"{R}/layouts/test.jsonl",
        scores=expand(f"{R}/scores/{{method}}/test.parquet", method=ORDERED),
        strips=expand(f"{R}/report/strips/{{shard}}.json", shard=shards("test")),
    output:
        report(
            f"{R}/report.html",
            caption="../report/page.rst",
            category="Images",
            labels={"page": "every layout, every row"},
        ),
    log:
        f"{R}/logs/write_page.log",
    benchmark:
        f"{R}/benchmarks/write_page.jsonl"
    conda:
        "../envs/harness.yaml"
    resources:
        mem_mb=config["resources"]["mem_mb"],
    params:
        run=config["run"],
        caveat=lambda wildcards: config.get("caveat", ""),
        scores=lambda wildcards: f"{R}/scores",
        methods=ORDERED,
        compare=[
            row if row in ORDERED else ORDERED[0]
            for row in (ALIGNMENT["method"], ALIGNMENT["reference"])
        ],
    message:
        "Writing report.html"
    shell:
        "python -m evaluation.page --run {params.run:q} --caveat={params.caveat:q} --tables {input.tables}"
        " --figures {input.figures} --layouts {input.layouts} --scores {params.scores} --methods {params.methods}"
        " --compare {params.compare} --strips {input.strips} --out {output} > {log} 2>&1"
