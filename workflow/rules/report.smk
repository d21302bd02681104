# The paper's tables and its Figure 4.


localrules:
    tabulate,
    tabulate_cost,
    tabulate_distances,
    tabulate_adherence,
    draw_panel,


rule tabulate:
    input:
        metrics=lambda wildcards: expand(
            f"{R}/metrics/{{method}}/test.json",
            method=runnable(config["tables"][f"table{wildcards.table}"]),
        ),
        specs=lambda wildcards: expand(
            f"{R}/methods/{{method}}.json",
            method=[
                row
                for row in runnable(config["tables"][f"table{wildcards.table}"])
                if row != "real"
            ],
        ),
        cost=f"{R}/tables/cost.csv",
        significance=f"{R}/tables/significance.csv",
        best=f"{R}/tables/best.csv",
        published="workflow/config/published.csv",
    output:
        csv=report(
            f"{R}/tables/table{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "Table {table}"},
        ),
        markdown=f"{R}/tables/table{{table}}.md",
        latex=f"{R}/tables/table{{table}}.tex",
    log:
        f"{R}/logs/tabulate/table{{table}}.log",
    conda:
        "../envs/harness.yaml"
    params:
        data=plan.data_key,
        caveat=lambda wildcards: config.get("caveat", ""),
        rows=lambda wildcards: config["tables"][f"table{wildcards.table}"],
        mark=ALIGNMENT["method"],
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Writing Table {wildcards.table}"
    shell:
        "python -m evaluation.tables --table {wildcards.table} --metrics {input.metrics} --rows {params.rows}"
        " --specs {input.specs} --data {plan.path.config} --cost {input.cost} --published {input.published}"
        " --significance {input.significance} --best {input.best} --mark-against {params.mark}"
        " --caveat={params.caveat:q} --out {params.out} > {log} 2>&1"


rule compare_rows:
    input:
        metrics=expand(f"{R}/metrics/{{method}}/test.json", method=RIVALS),
        scores=expand(f"{R}/scores/{{method}}/test.parquet", method=RIVALS),
        swaps=swaps(),
    output:
        csv=report(
            f"{R}/tables/significance.csv",
            caption="../report/significance.rst",
            category="Tables",
            labels={"table": "paired differences"},
        ),
        markdown=f"{R}/tables/significance.md",
    log:
        f"{R}/logs/compare_rows.log",
    conda:
        "../envs/harness.yaml"
    resources:
        **needs("compare_rows"),
    params:
        rows=" ".join(
            f"--row {R}/metrics/{row}/test.json {R}/scores/{row}/test.parquet" for row in RIVALS
        ),
        against=AGAINST,
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Comparing the rows, image by image"
    shell:
        "python -m evaluation.compare {params.rows} --against {params.against} --swaps {input.swaps}"
        " --out {params.out} > {log} 2>&1"


rule tabulate_distances:
    input:
        expand(f"{R}/metrics/{{method}}/test.json", method=ORDERED),
    output:
        csv=report(
            f"{R}/tables/distances.csv",
            caption="../report/distances.rst",
            category="Tables",
            labels={"table": "distances"},
        ),
        markdown=f"{R}/tables/distances.md",
    log:
        f"{R}/logs/tabulate/distances.log",
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Writing the table of distances"
    shell:
        "python -m evaluation.distances --metrics {input} --out {params.out} > {log} 2>&1"


rule tabulate_adherence:
    input:
        expand(f"{R}/metrics/{{method}}/test.json", method=ORDERED),
    output:
        csv=report(
            f"{R}/tables/adherence.csv",
            caption="../report/adherence.rst",
            category="Tables",
            labels={"table": "layout adherence"},
        ),
        markdown=f"{R}/tables/adherence.md",
    log:
        f"{R}/logs/tabulate/adherence.log",
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Writing the table of layout adherence"
    shell:
        "python -m evaluation.adherence_table --metrics {input} --out {params.out} > {log} 2>&1"


rule tabulate_cost:
    input:
        expand(
            f"{R}/samples/{{method}}/test/{{shard}}.zip",
            method=[row for row in ROWS if row != "real"],
            shard=shards("test"),
        ),
    output:
        csv=report(
            f"{R}/tables/cost.csv",
            caption="../report/cost.rst",
            category="Tables",
            labels={"table": "cost"},
        ),
        markdown=f"{R}/tables/cost.md",
    log:
        f"{R}/logs/tabulate/cost.log",
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Writing the cost table"
    shell:
        "python -m evaluation.cost --shards {input} --out {params.out} > {log} 2>&1"


rule draw_panel:
    input:
        layouts=f"{R}/layouts/test.jsonl",
        samples=expand(
            f"{R}/samples/{{method}}/test/{{shard}}.zip",
            method=ROWS,
            shard=shards("test"),
        ),
        published="workflow/config/published.csv",
    output:
        png=report(
            f"{R}/figures/panel.png",
            caption="../report/panel.rst",
            category="Figures",
            labels={"figure": "the same layouts across all rows"},
        ),
        svg=f"{R}/figures/panel.svg",
    log:
        f"{R}/logs/draw_panel.log",
    conda:
        "../envs/harness.yaml"
    params:
        samples=lambda wildcards: f"{R}/samples",
        shard_size=config["data"]["shard_size"],
        methods=ORDERED,
        out=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Drawing the panel"
    shell:
        "python -m evaluation.panel --layouts {input.layouts} --samples {params.samples}"
        " --shard-size {params.shard_size} --methods {params.methods} --published {input.published}"
        " --out {params.out} > {log} 2>&1"
