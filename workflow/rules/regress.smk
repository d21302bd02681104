# Held against what is known: recorded metrics, the published values, another run.


localrules:
    metrics,
    regress,
    accept,
    tabulate_reproduction,
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
        "python -m evaluation.regress check --run {params.run} --reference {params.reference:q} --code {params.code}"
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
        "python -m evaluation.regress accept --run {params.run} --reference {params.reference:q} --code {params.code}"
        ' --reason "${{REASON:-}}" > {log} 2>&1'


rule tabulate_reproduction:
    input:
        tables=[plan.path.table(name) for name in plan.settings.tables],
        distances=plan.path.table("distances"),
        significance=plan.path.table("significance"),
    output:
        csv=plan.path.table("reproduction"),
        markdown=plan.path.table("reproduction", "md"),
    log:
        plan.path.log("tabulate/reproduction"),
    conda:
        "../envs/harness.yaml"
    params:
        caveat=lambda wildcards: plan.settings.caveat,
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Comparing with the published values"
    shell:
        "python -m evaluation.reproduce --tables {input.tables} --distances {input.distances}"
        " --significance {input.significance} --caveat={params.caveat:q} --out {params.out} > {log} 2>&1"


rule reproduce:
    input:
        rules.tabulate_reproduction.output.markdown,
    log:
        plan.path.log("reproduce"),
    conda:
        "../envs/harness.yaml"
    message:
        "What of the published values reproduces"
    shell:
        "cat {input} 2> {log}"


rule put_side_by_side:
    input:
        lambda wildcards: preflight.metrics_of_runs(plan),
    output:
        csv=plan.side_by_side("csv"),
        markdown=plan.side_by_side("md"),
    log:
        plan.side_by_side("log"),
    conda:
        "../envs/harness.yaml"
    params:
        runs=[plan.settings.first, plan.settings.second],
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Putting {params.runs[0]} and {params.runs[1]} side by side"
    shell:
        "python -m evaluation.side_by_side --first results/{params.runs[0]} --second results/{params.runs[1]}"
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
