# The miniature's weights from nothing: snakemake pretrain --cores 1. Hours; every stage resumes from its checkpoint.

PRETRAIN = config["pretrain"]
CHECKPOINTS = place(PRETRAIN["work"])
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
        lambda wildcards: expand(f"{CHECKPOINTS}/{{stage}}.done", stage=AFTER[wildcards.stage]),
    output:
        touch(f"{CHECKPOINTS}/{{stage}}.done"),
    log:
        f"{CHECKPOINTS}/logs/{{stage}}.log",
    wildcard_constraints:
        stage="|".join(AFTER),
    conda:
        "../envs/harness.yaml"
    resources:
        gpu=0 if PRETRAIN["device"] == "cpu" else 1,
    params:
        work=lambda wildcards: CHECKPOINTS,
        steps=f"--steps {PRETRAIN['steps']}" if PRETRAIN["steps"] else "",
        scenes=PRETRAIN["scenes"],
        device=PRETRAIN["device"],
    message:
        "Pretraining stage {wildcards.stage}; see the log for its progress"
    shell:
        "python -m workflow.miniature.pretrain {wildcards.stage} --work {params.work:q} {params.steps}"
        " --scenes {params.scenes} --device {params.device} --threads {threads} > {log:q} 2>&1"


rule pretrain:
    input:
        expand(f"{CHECKPOINTS}/{{stage}}.done", stage=AFTER),
    log:
        f"{CHECKPOINTS}/logs/ship.log",
    conda:
        "../envs/harness.yaml"
    params:
        work=lambda wildcards: CHECKPOINTS,
        out=lambda wildcards: place(PRETRAIN["out"]),
    message:
        "Writing the trained weights and their card"
    shell:
        "python -m workflow.miniature.pretrain ship --work {params.work:q} --out {params.out:q} > {log:q} 2>&1"
