# Held against what is known: recorded metrics, the published values, another run.


localrules:
    metrics,
    regress,
    accept,
    reproduce,
    put_side_by_side,
    compare,


rule metrics:
    input:
        [plan.path.metrics(row, "test") for row in plan.rows],


# Without an output: it is asked for its answer, every time, and gives it also where Snakemake is told to be quiet.
rule regress:
    input:
        rules.metrics.input,
    log:
        plan.path.log("regress"),
    conda:
        "../envs/harness.yaml"
    params:
        run=lambda wildcards: plan.path.folder,
        reference=lambda wildcards: plan.recorded,
        code=plan.CODE,
    message:
        "Holding {params.run} against {params.reference}"
    shell:
        "python -m evaluation.regression check --run {params.run} --reference {params.reference:q} --code {params.code}"
        " 2>&1 | tee {log}"


# The reason is the environment's: it is a sentence, and on the command line Snakemake would read YAML into it.
rule accept:
    input:
        rules.metrics.input,
    log:
        plan.path.log("accept"),
    conda:
        "../envs/harness.yaml"
    params:
        run=lambda wildcards: plan.path.folder,
        reference=lambda wildcards: plan.recorded,
        code=plan.CODE,
    message:
        "Recording {params.run} as {params.reference}"
    shell:
        "python -m evaluation.regression accept --run {params.run} --reference {params.reference:q} --code {params.code}"
        ' --reason "${{REASON:-}}" > {log} 2>&1'


rule reproduce:
    input:
        products.against_published(plan, "md"),
    log:
        plan.path.log("reproduce"),
    conda:
        "../envs/harness.yaml"
    message:
        "What of the published values reproduces"
    shell:
        "cat {input} 2> {log}"


rule hold_against_published:
    input:
        runs=lambda wildcards: preflight.metrics_of_runs(plan.settings.reproduced),
        published=products.PUBLISHED,
    output:
        csv="results/compare/{other}-reproduction.csv",
        markdown="results/compare/{other}-reproduction.md",
    log:
        "results/compare/{other}-reproduction.log",
    wildcard_constraints:
        other=called(plan.settings.reproduced),
    conda:
        "../envs/harness.yaml"
    params:
        run=lambda wildcards: run_of(plan.settings.reproduced),
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Holding {params.run} against the published values"
    shell:
        "python -m evaluation.tables reproduction_of --run {params.run:q} --published {input.published}"
        " --out {params.out} > {log} 2>&1"


rule put_side_by_side:
    input:
        lambda wildcards: preflight.metrics_of_runs(plan.settings.first, plan.settings.second),
    output:
        csv=plan.side_by_side("csv"),
        markdown=plan.side_by_side("md"),
    log:
        plan.side_by_side("log"),
    conda:
        "../envs/harness.yaml"
    params:
        runs=lambda wildcards: [run_of(plan.settings.first), run_of(plan.settings.second)],
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Putting {params.runs[0]} and {params.runs[1]} side by side"
    shell:
        "python -m evaluation.tables runs --first {params.runs[0]:q} --second {params.runs[1]:q}"
        " --out {params.out} > {log} 2>&1"


rule compare:
    input:
        rules.put_side_by_side.output.markdown,
    log:
        "results/compare/compare.log",
    conda:
        "../envs/harness.yaml"
    message:
        "Two runs side by side"
    shell:
        "cat {input} 2> {log}"
