# The tables, each as JSON, CSV, Markdown and LaTeX. Their programs read JSON.
PUBLISHED = "workflow/config/published.csv"
OF_METRICS = ("distances", "adherence")
KINDS = (*OF_METRICS, "cost", "seeds", "significance", "best", "reproduction")
if clash := set(config["tables"]) & set(KINDS):
    stop(f"tables: {clash.pop()} is the name of another table; expected another one")
LABELS = [f"{row}={METHODS[row]['label']}" for row in ORDERED if METHODS.get(row, {}).get("label")]


def metrics_of(rows):
    return [f"{R}/metrics/{row}/test.json" for row in rows]


def table_inputs(wildcards):
    # By the option of evaluation.tables that takes them.
    name = wildcards.table
    if name in OF_METRICS:
        return {"metrics": metrics_of(ORDERED)}
    if name == "seeds":
        return {"row": metrics_of([*RIVALS, *REPEATS])}
    if name == "cost":
        return {
            "shards": [
                f"{R}/samples/{row}/test/{shard}.zip" for row in RIVALS for shard in shards("test")
            ]
        }
    found = {"published": PUBLISHED, "significance": f"{R}/tables/significance.json"}
    if name == "reproduction":
        return {"metrics": metrics_of(ORDERED)} | found
    rows = runnable(config["tables"][name])
    return found | {
        "metrics": metrics_of(rows),
        "specs": [f"{R}/methods/{row}.json" for row in rows if row != "real"],
        "data": f"{R}/config/data.json",
        "cost": f"{R}/tables/cost.json",
        "best": f"{R}/tables/best.json",
    }


def table_options(wildcards, input):
    name = wildcards.table
    if name == "seeds":
        words = [
            word for row in ORDERED if row != "real" for word in ("--row", row, *seeds_of(row))
        ]
    else:
        words = [
            word
            for option, paths in input.items()
            for word in (f"--{option}", *([paths] if isinstance(paths, str) else paths))
        ]
    if "published" in input.keys():
        words.append(f"--caveat={config.get('caveat', '')}")
    if name in config["tables"]:
        words += ["--name", name, "--mark-against", ALIGNMENT["method"]]
        words += ["--rows", *config["tables"][name], "--labels", *LABELS]
    return shlex.join(words)


def seeds_of(row):
    return metrics_of([row, *(name for name, (first, _) in REPEATS.items() if first == row)])


def paired_options(wildcards):
    words = [
        word
        for row in RIVALS
        for word in ("--row", f"{R}/metrics/{row}/test.json", f"{R}/scores/{row}/test.parquet")
    ]
    if wildcards.table == "significance":
        return shlex.join([*words, "--against", *AGAINST])
    for name, rows in config["tables"].items():
        words += ["--table", name, *(row for row in runnable(rows) if row != "real")]
    return shlex.join(words)


localrules:
    tabulate,


rule tabulate:
    input:
        unpack(table_inputs),
    output:
        json=f"{R}/tables/{{table}}.json",
        csv=report(
            f"{R}/tables/{{table}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        markdown=f"{R}/tables/{{table}}.md",
        latex=f"{R}/tables/{{table}}.tex",
    log:
        f"{R}/logs/tabulate/{{table}}.log",
    wildcard_constraints:
        table="|".join([*config["tables"], *OF_METRICS, "cost", "seeds", "reproduction"]),
    conda:
        "../envs/harness.yaml"
    params:
        kind=lambda wildcards: (
            "headline" if wildcards.table in config["tables"] else wildcards.table
        ),
        options=table_options,
        mark=ALIGNMENT["method"],
        out=lambda wildcards, output: output.json.removesuffix(".json"),
    message:
        "Writing the table {wildcards.table}"
    shell:
        "python -m evaluation.tables {params.kind} {params.options} --out {params.out} > {log} 2>&1"


rule compare_rows:
    input:
        metrics=metrics_of(RIVALS),
        scores=expand(f"{R}/scores/{{method}}/test.parquet", method=RIVALS),
        swaps=swaps(),
    output:
        json=f"{R}/tables/{{table}}.json",
        csv=report(
            f"{R}/tables/{{table}}.csv",
            caption="../report/paired.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        markdown=f"{R}/tables/{{table}}.md",
        latex=f"{R}/tables/{{table}}.tex",
    log:
        f"{R}/logs/compare_rows/{{table}}.log",
    wildcard_constraints:
        table="significance|best",
    conda:
        "../envs/harness.yaml"
    resources:
        **needs("compare_rows"),
    params:
        options=paired_options,
        against=AGAINST,
        out=lambda wildcards, output: output.json.removesuffix(".json"),
    message:
        "Comparing the rows, image by image: {wildcards.table}"
    shell:
        "python -m evaluation.tables {wildcards.table} {params.options} --swaps {input.swaps}"
        " --out {params.out} > {log} 2>&1"
