# Which rows are best, and how much the rows' numbers vary with the sampling seed.


localrules:
    compare_best,
    tabulate_seeds,


rule compare_best:
    input:
        metrics=expand(f"{R}/metrics/{{method}}/test.json", method=RIVALS),
        scores=expand(f"{R}/scores/{{method}}/test.parquet", method=RIVALS),
        swaps=swaps(),
    output:
        csv=report(
            f"{R}/tables/best.csv",
            caption="../report/best.rst",
            category="Tables",
            labels={"table": "best rows"},
        ),
        markdown=f"{R}/tables/best.md",
    log:
        f"{R}/logs/compare_best.log",
    conda:
        "../envs/harness.yaml"
    params:
        rows=" ".join(
            f"--row {R}/metrics/{row}/test.json {R}/scores/{row}/test.parquet" for row in RIVALS
        ),
        tables=" ".join(
            " ".join(
                [
                    "--table",
                    number,
                    *(
                        row
                        for row in runnable(config["tables"][f"table{number}"])
                        if row != "real"
                    ),
                ]
            )
            for number in "12"
        ),
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Comparing the best rows"
    shell:
        "python -m evaluation.best {params.rows} {params.tables} --swaps {input.swaps} --out {params.out} > {log} 2>&1"


rule tabulate_seeds:
    input:
        expand(f"{R}/metrics/{{method}}/test.json", method=[*RIVALS, *REPEATS]),
    output:
        csv=report(
            f"{R}/tables/seeds.csv",
            caption="../report/seeds.rst",
            category="Tables",
            labels={"table": "sampling seeds"},
        ),
        markdown=f"{R}/tables/seeds.md",
    log:
        f"{R}/logs/tabulate/seeds.log",
    conda:
        "../envs/harness.yaml"
    params:
        rows=" ".join(
            " ".join(
                ["--row", row]
                + [
                    f"{R}/metrics/{name}/test.json"
                    for name in [
                        row,
                        *(name for name, (first, _) in REPEATS.items() if first == row),
                    ]
                ]
            )
            for row in ORDERED
            if row != "real"
        ),
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Writing the table of sampling seeds"
    shell:
        "python -m evaluation.seeds {params.rows} --out {params.out} > {log} 2>&1"
