# The paper's tables and its Figure 4.


localrules:
    tabulate,
    draw_panel,


rule tabulate:
    input:
        metrics=lambda wildcards: expand(
            f"{R}/metrics/{{method}}/test.json",
            method=config["tables"][f"table{wildcards.table}"],
        ),
        published="workflow/config/published.csv",
    output:
        csv=f"{R}/tables/table{{table}}.csv",
        markdown=f"{R}/tables/table{{table}}.md",
        latex=f"{R}/tables/table{{table}}.tex",
    log:
        f"{R}/logs/tabulate/table{{table}}.log",
    conda:
        "../envs/harness.yaml"
    params:
        caveat=config.get("caveat", ""),
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Writing Table {wildcards.table}"
    shell:
        "python -m evaluation.tables --table {wildcards.table} --metrics {input.metrics} --published {input.published}"
        " --caveat {params.caveat:q} --out {params.out} > {log} 2>&1"


rule draw_panel:
    input:
        layouts=f"{R}/layouts/test.jsonl",
        samples=expand(
            f"{R}/samples/{{method}}/test/{{shard}}.zip",
            method=ROWS,
            shard=shards("test"),
        ),
    output:
        f"{R}/figures/panel.png",
    log:
        f"{R}/logs/draw_panel.log",
    conda:
        "../envs/harness.yaml"
    params:
        samples=lambda wildcards: f"{R}/samples",
        shard_size=config["data"]["shard_size"],
        methods=[
            *config["tables"]["table1"],
            *(row for row in config["tables"]["table2"] if row not in config["tables"]["table1"]),
        ],
    message:
        "Drawing the panel"
    shell:
        "python -m evaluation.panel --layouts {input.layouts} --samples {params.samples}"
        " --shard-size {params.shard_size} --methods {params.methods} --out {output} > {log} 2>&1"
