# The miniature's weights from nothing: snakemake pretrain --cores 1. Hours; every stage resumes from its checkpoint.

PRETRAIN = "results/pretrain"
AFTER = {
    "judge": [],
    "vae": [],
    "text": [],
    "base": ["vae", "text"],
    "located": ["base"],
    "grounding": ["located"],
    "features": [],
    "scorer": [],
    "detector": [],
    "ldm_text": [],
    "ldm_base": ["vae", "ldm_text"],
    "ldm_grounding": ["ldm_base"],
}


rule pretrain_stage:
    input:
        lambda wildcards: expand(f"{PRETRAIN}/{{stage}}.done", stage=AFTER[wildcards.stage]),
    output:
        touch(f"{PRETRAIN}/{{stage}}.done"),
    log:
        f"{PRETRAIN}/logs/{{stage}}.log",
    wildcard_constraints:
        stage="|".join(AFTER),
    conda:
        "../envs/harness.yaml"
    params:
        work=lambda wildcards: PRETRAIN,
    message:
        "Pretraining stage {wildcards.stage}; see the log for its progress"
    shell:
        "python -m workflow.scripts.miniature.pretrain {wildcards.stage} --work {params.work} --threads {threads}"
        " > {log} 2>&1"


rule pretrain:
    input:
        expand(f"{PRETRAIN}/{{stage}}.done", stage=AFTER),
    log:
        f"{PRETRAIN}/logs/ship.log",
    conda:
        "../envs/harness.yaml"
    params:
        work=lambda wildcards: PRETRAIN,
        out="weights/miniature",
    message:
        "Writing weights/miniature and its card"
    shell:
        "python -m workflow.scripts.miniature.pretrain ship --work {params.work} --out {params.out} > {log} 2>&1"
