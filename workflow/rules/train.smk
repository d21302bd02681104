# The alignment module: cached latents, training, and eta, which the paper leaves open, calibrated on held-out data.


localrules:
    calibrate_eta,
    choose_eta,


# Of an open_clip model, such as the one that scores: targets by its text encoder are a reading (A13), never the default.
rule write_text_tower:
    output:
        f"{plan.path.weights}/{{name}}/SHA256SUMS",
    log:
        plan.path.log("write_text_tower/{name}"),
    wildcard_constraints:
        name="|".join(plan.text_towers) or "none",
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        key=lambda wildcards: plan.model_key(wildcards.name),
        folder=lambda wildcards: plan.text_towers[wildcards.name],
        out=lambda wildcards: f"{plan.path.weights}/{wildcards.name}",
    message:
        "Writing the text encoder {wildcards.name} of {params.folder}"
    shell:
        "python -m workflow.text_tower --open-clip {params.folder:q} --out {params.out} > {log} 2>&1"


rule cache_latents:
    input:
        layouts=lambda wildcards: [
            plan.path.layout_shard(wildcards.split, shard)
            for shard in plan.parts(wildcards.split)[wildcards.part]
        ],
        images=lambda wildcards: [
            plan.path.samples("real", wildcards.split, shard)
            for shard in plan.parts(wildcards.split)[wildcards.part]
        ],
        weights=lambda wildcards: plan.weights_made(
            *plan.variants[wildcards.variant].encoding_models
        ),
    output:
        plan.path.train().latents(),
    log:
        plan.path.log("cache_latents{variant}/{split}-{part}"),
    benchmark:
        plan.path.benchmark("cache_latents{variant}/{split}-{part}")
    wildcard_constraints:
        part="[0-9]{4}",
    priority: 10
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("cache_latents"),
        gpu=plan.settings.resources.gpu,
    params:
        models=lambda wildcards: plan.model_keys(plan.variants[wildcards.variant].encoding_models),
        model=plan.aligned_model,
        template=lambda wildcards: plan.variants[wildcards.variant].alignment.model.label_template,
        text=lambda wildcards: plan.text_options(wildcards.variant),
        device=plan.untracked(plan.settings.resources.device),
    message:
        "Encoding photos and texts of {wildcards.split}, file {wildcards.part}"
    shell:
        "python -m hcma.cache --model {params.model:q} --layouts {input.layouts} --images {input.images}"
        " --label-template={params.template:q} {params.text:q} --device {params.device}"
        " --out {output} > {log} 2>&1"


rule train_alignment:
    input:
        train=lambda wildcards: plan.latents("train", wildcards.variant),
        heldout=lambda wildcards: plan.latents("heldout", wildcards.variant),
    output:
        weights=plan.path.train().alignment,
        curves=plan.path.train().curves,
    log:
        plan.path.log("train_alignment{variant}"),
    benchmark:
        plan.path.benchmark("train_alignment{variant}")
    priority: 10
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("train_alignment"),
        gpu=plan.training_gpus,
    params:
        key=lambda wildcards: plan.variants[wildcards.variant].training_key,
        work=plan.path.work("alignment{variant}"),
        config=plan.sections,
        launcher=plan.untracked(plan.launcher),
        device=plan.untracked(plan.settings.resources.device),
    message:
        "Training the alignment module"
    shell:
        "{params.launcher} -m hcma.train --train {input.train} --heldout {input.heldout} --config {params.config}"
        " --work {params.work} --device {params.device}"
        " --out {output.weights} --curves {output.curves} > {log} 2>&1"


rule calibrate_eta:
    input:
        alignment=lambda wildcards: plan.module(wildcards.variant),
        latents=lambda wildcards: plan.latents("heldout", wildcards.variant),
    output:
        eta=plan.path.train().eta,
        candidates=[
            plan.path.train().candidate(number)
            for number in range(len(plan.settings.alignment.calibrate.multiples))
        ],
    log:
        plan.path.log("calibrate_eta{variant}"),
    priority: 10
    conda:
        "../envs/harness.yaml"
    params:
        key=lambda wildcards: plan.variants[wildcards.variant].calibration_key,
        method=lambda wildcards: plan.variants[wildcards.variant].row,
        step=plan.settings.alignment.calibrate.relative_step,
        latents=plan.settings.alignment.calibrate.count,
        multiples=plan.settings.alignment.calibrate.multiples,
        config=plan.sections,
    message:
        "Calibrating eta on held-out latents"
    shell:
        "python -m hcma.calibrate --alignment {input.alignment} --latents {input.latents} --config {params.config}"
        " --method {params.method} --relative-step {params.step} --count {params.latents}"
        " --multiples {params.multiples} --out {output.eta} > {log} 2>&1"


rule choose_eta:
    input:
        eta=plan.path.train().eta,
        reference=plan.path.metrics(plan.settings.alignment.reference, "heldout"),
        scores=plan.path.scores(plan.settings.alignment.reference, "heldout"),
        candidates=lambda wildcards: [
            plan.path.metrics(row, "heldout") for row in plan.candidates_of(wildcards.variant)
        ],
        specs=lambda wildcards: [
            plan.path.spec(row) for row in plan.candidates_of(wildcards.variant)
        ],
    output:
        plan.path.train().calibration,
    log:
        plan.path.log("choose_eta{variant}"),
    wildcard_constraints:
        variant=f"(?:{'|'.join(plan.choosing)})",
    priority: 10
    conda:
        "../envs/harness.yaml"
    message:
        "Choosing eta by held-out metrics"
    shell:
        "python -m evaluation.select_eta --reference {input.reference} --scores {input.scores}"
        " --candidates {input.candidates} --specs {input.specs} --out {output} > {log} 2>&1"
