# The tables, each as JSON, CSV, Markdown and LaTeX. Their programs read JSON.


localrules:
    tabulate,


rule tabulate:
    input:
        unpack(lambda wildcards: products.table_inputs(plan, wildcards.table)),
    output:
        json=plan.path.table("{table}", "json"),
        csv=report(
            plan.path.table("{table}"),
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        markdown=plan.path.table("{table}", "md"),
        latex=plan.path.table("{table}", "tex"),
    log:
        plan.path.log("tabulate/{table}"),
    wildcard_constraints:
        table="|".join({*plan.settings.tables, *products.KINDS} - {*products.PAIRED}),
    conda:
        "../envs/harness.yaml"
    params:
        key=lambda wildcards: plan.table_key(wildcards.table),
        kind=lambda wildcards: products.kind(plan, wildcards.table),
        options=lambda wildcards: products.table_options(plan, wildcards.table),
        out=lambda wildcards, output: output.json.removesuffix(".json"),
    message:
        "Writing the table {wildcards.table}"
    shell:
        "python -m evaluation.tables {params.kind} {params.options:q} --out {params.out} > {log} 2>&1"


rule compare_rows:
    input:
        metrics=products.metrics_of(plan, sorted(plan.methods)),
        scores=[plan.path.scores(row, "test") for row in sorted(plan.methods)],
        swaps=products.swaps(plan),
    output:
        json=plan.path.table("{table}", "json"),
        csv=report(
            plan.path.table("{table}"),
            caption="../report/paired.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        markdown=plan.path.table("{table}", "md"),
        latex=plan.path.table("{table}", "tex"),
    log:
        plan.path.log("compare_rows/{table}"),
    wildcard_constraints:
        table="|".join(products.PAIRED),
    conda:
        "../envs/harness.yaml"
    resources:
        **plan.needs("compare_rows"),
    params:
        options=lambda wildcards: products.paired_options(plan, wildcards.table),
        out=lambda wildcards, output: output.json.removesuffix(".json"),
    message:
        "Comparing the rows, image by image: {wildcards.table}"
    shell:
        "python -m evaluation.tables {wildcards.table} {params.options:q} --swaps {input.swaps}"
        " --out {params.out} > {log} 2>&1"
