# `snakemake estimate`: what sampling, training and evaluation will cost, from a pilot on the configured device; it needs no weights and no data.


localrules:
    estimate,


rule pilot:
    output:
        plan.path.pilot,
    log:
        plan.path.log("pilot"),
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("pilot"),
        gpu=max(plan.settings.resources.gpu, plan.evaluation_gpus),
    params:
        key=plan.estimate_key,
        device=plan.settings.resources.device,
        config=plan.untracked(plan.path.config),
    message:
        "Timing the networks on {params.device}"
    shell:
        "python -m workflow.benchmarks pilot --config {params.config} --device {params.device} --out {output} > {log} 2>&1"


# Without output: it is run each time, since what has been spent changes.
rule estimate:
    input:
        pilot=plan.path.pilot,
    log:
        plan.path.log("estimate"),
    conda:
        "../envs/harness.yaml"
    params:
        samples=lambda wildcards: f"{plan.path.folder}/samples",
        out=lambda wildcards: plan.path.estimate,
        config=plan.untracked(plan.path.config),
    message:
        "Estimating the cost of {plan.path.folder}"
    shell:
        "python -m workflow.benchmarks estimate --config {params.config} --pilot {input.pilot} --samples {params.samples}"
        " --out {params.out} 2> {log}"
