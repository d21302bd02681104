# Held against what is known: recorded metrics, the published values, another run.
RECORDED = place(config.get("reference", f"results/reference/{config['run']}.json"))
TWO = [config.get(name) for name in ("first", "second")]
# Whose hashes are recorded: all that makes layouts, images and metrics.
CODE = [
    "formats",
    "hcma",
    "baselines",
    "evaluation",
    "workflow/scripts/miniature",
    "workflow/scripts/write_method.py",
]
BESIDE = f"results/compare/{TWO[0]}-{TWO[1]}"


localrules:
    metrics,
    regress,
    accept,
    reproduce,
    put_side_by_side,
    compare,


rule metrics:
    input:
        expand(f"{R}/metrics/{{method}}/test.json", method=ORDERED),


# Without an output: it is asked for its answer, every time, and gives it also where Snakemake is told to be quiet.
rule regress:
    input:
        rules.metrics.input,
    log:
        f"{R}/logs/regress.log",
    conda:
        "../envs/harness.yaml"
    params:
        run=lambda wildcards: R,
        reference=lambda wildcards: RECORDED,
        code=CODE,
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
        f"{R}/logs/accept.log",
    conda:
        "../envs/harness.yaml"
    params:
        run=lambda wildcards: R,
        reference=lambda wildcards: RECORDED,
        code=CODE,
    message:
        "Recording {params.run} as {params.reference}"
    shell:
        "python -m evaluation.regression accept --run {params.run} --reference {params.reference:q} --code {params.code}"
        ' --reason "${{REASON:-}}" > {log} 2>&1'


rule reproduce:
    input:
        f"{R}/tables/reproduction.md",
    log:
        f"{R}/logs/reproduce.log",
    conda:
        "../envs/harness.yaml"
    message:
        "What of the published values reproduces"
    shell:
        "cat {input} 2> {log}"


rule put_side_by_side:
    input:
        lambda wildcards: [path for run in TWO for path in metrics_of_run(run)],
    output:
        csv=f"{BESIDE}.csv",
        markdown=f"{BESIDE}.md",
    log:
        f"{BESIDE}.log",
    conda:
        "../envs/harness.yaml"
    params:
        runs=TWO,
        out=lambda wildcards, output: output.csv.removesuffix(".csv"),
    message:
        "Putting {params.runs[0]} and {params.runs[1]} side by side"
    shell:
        "python -m evaluation.tables runs --first results/{params.runs[0]} --second results/{params.runs[1]}"
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
