# A method's specification, and its images, shard by shard.


localrules:
    write_method,


rule write_method:
    input:
        weights=lambda wildcards: plan.weights_made(*plan.sampling_models(wildcards.method)),
        artefacts=lambda wildcards: plan.artefacts_made(wildcards.method),
    output:
        plan.path.spec(),
    log:
        plan.path.log("write_method/{method}"),
    priority: 10
    conda:
        "../envs/harness.yaml"
    params:
        key=lambda wildcards: plan.method_key(wildcards.method),
        models=lambda wildcards: plan.model_keys(plan.sampling_models(wildcards.method)),
        config=plan.untracked(plan.path.config),
    message:
        "Specifying {wildcards.method}"
    shell:
        "python -m workflow.write_method --config {params.config} --method {wildcards.method} --out {output} > {log} 2>&1"


rule sample:
    input:
        spec=plan.path.spec(),
        layouts=plan.path.layout_shard(),
    output:
        plan.path.samples(),
    log:
        plan.path.log("sample/{method}-{split}-{shard}"),
    benchmark:
        plan.path.benchmark("sample/{method}-{split}-{shard}")
    # Held-out candidates decide eta, which the aligned rows wait for: no other row is sampled before them.
    priority: lambda wildcards: 9 if wildcards.split == "heldout" else 5
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("sample"),
        gpu=plan.settings.resources.gpu,
    params:
        work=plan.path.work("samples/{method}-{split}-{shard}"),
        model=plan.sampled_model,
        speed=plan.untracked(plan.speed),
    message:
        "Sampling {wildcards.method}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m hcma.sampling.sample --spec {input.spec} --model {params.model:q} --layouts {input.layouts} --work {params.work}"
        " {params.speed} --out {output} > {log} 2>&1"


ruleorder: sample_real > import_images > sample


# For a cluster, whose nodes Snakemake's own check does not see: is the device there, where the work will run?
rule check_device:
    log:
        plan.path.log("check_device"),
    conda:
        "../envs/harness.yaml"
    resources:
        **plan.needs("check_device"),
        gpu=plan.settings.resources.gpu,
    params:
        config=plan.untracked(plan.path.config),
    message:
        "Checking the device {plan.settings.resources.device}"
    shell:
        "python -m workflow.preflight --config {params.config} --check device > {log} 2>&1"
