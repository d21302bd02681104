# Folders of random weights in the hub's file formats, and the check that what is loaded is the architecture it should be.


rule write_random_weights:
    output:
        f"{plan.path.weights}/{{name}}/SHA256SUMS",
    log:
        plan.path.log("write_random_weights/{name}"),
    benchmark:
        plan.path.benchmark("write_random_weights/{name}")
    wildcard_constraints:
        name="|".join(plan.recipes) or "none",
    priority: 20
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("write_random_weights"),
    params:
        kind=lambda wildcards: plan.recipes[wildcards.name].kind,
        seed=lambda wildcards: plan.recipes[wildcards.name].random_seed,
        out=lambda wildcards: f"{plan.path.weights}/{wildcards.name}",
    message:
        "Writing random weights of {wildcards.name}"
    shell:
        "python -m workflow.random_weights --architecture {params.kind} --seed {params.seed}"
        " --out {params.out} > {log} 2>&1"


rule count_parameters:
    input:
        lambda wildcards: plan.weights_made(wildcards.name),
    output:
        plan.path.architecture(),
    log:
        plan.path.log("count_parameters/{name}"),
    benchmark:
        plan.path.benchmark("count_parameters/{name}")
    wildcard_constraints:
        name="|".join(plan.counted) or "none",
    priority: 15
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("count_parameters"),
    params:
        key=lambda wildcards: plan.model_key(wildcards.name),
        architecture=lambda wildcards: plan.settings.architectures[wildcards.name].kind,
        model=lambda wildcards: plan.model(wildcards.name),
    message:
        "Counting the parameters of {wildcards.name} as loaded"
    shell:
        "python -m workflow.random_weights.count --architecture {params.architecture} --model {params.model:q}"
        " --out {output} > {log} 2>&1"
