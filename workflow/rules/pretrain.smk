# The miniature's weights from nothing: snakemake pretrain --cores 1. Hours; every stage resumes from its checkpoint.

AFTER = {
    "judge": [],
    "vae": [],
    "text": [],
    "collection": ["vae", "text"],
    "base": ["collection"],
    "located": ["base"],
    "grounding": ["located"],
    "features": [],
    "scorer": [],
    "detector": [],
    "ldm_text": [],
    "ldm_base": ["collection", "ldm_text"],
    "ldm_grounding": ["ldm_base"],
}


rule pretrain_stage:
    input:
        lambda wildcards: expand(f"{plan.pretrained}/{{stage}}.done", stage=AFTER[wildcards.stage]),
    output:
        touch(f"{plan.pretrained}/{{stage}}.done"),
    log:
        f"{plan.pretrained}/logs/{{stage}}.log",
    wildcard_constraints:
        stage="|".join(AFTER),
    conda:
        "../envs/harness.yaml"
    resources:
        gpu=0 if plan.settings.pretrain.device == "cpu" else 1,
    params:
        work=lambda wildcards: plan.pretrained,
        steps=f"--steps {plan.settings.pretrain.steps}" if plan.settings.pretrain.steps else "",
        scenes=plan.settings.pretrain.scenes,
        device=plan.settings.pretrain.device,
    message:
        "Pretraining stage {wildcards.stage}; see the log for its progress"
    shell:
        "python -m workflow.miniature.pretrain {wildcards.stage} --work {params.work:q} {params.steps}"
        " --scenes {params.scenes} --device {params.device} --threads {threads} > {log:q} 2>&1"


rule pretrain:
    input:
        expand(f"{plan.pretrained}/{{stage}}.done", stage=AFTER),
    log:
        f"{plan.pretrained}/logs/ship.log",
    conda:
        "../envs/harness.yaml"
    params:
        work=lambda wildcards: plan.pretrained,
        out=lambda wildcards: place(plan.settings.pretrain.out),
    message:
        "Writing the trained weights and their card"
    shell:
        "python -m workflow.miniature.pretrain ship --work {params.work:q} --out {params.out:q} > {log:q} 2>&1"
