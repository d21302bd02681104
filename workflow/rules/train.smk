# The alignment module: cached latents, training, and eta, which the paper leaves open, calibrated on held-out data.


localrules:
    calibrate_eta,
    choose_eta,


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
        weights=plan.weights_made(*plan.encoding_models),
    output:
        plan.path.latents(),
    log:
        plan.path.log("cache_latents/{split}-{part}"),
    benchmark:
        plan.path.benchmark("cache_latents/{split}-{part}")
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
        models=plan.model_keys(plan.encoding_models),
        model=lambda wildcards: plan.model(plan.settings.alignment.base),
        template=lambda wildcards: plan.settings.alignment.model.label_template,
        text=lambda wildcards: plan.text_options,
        device=plan.untracked(plan.settings.resources.device),
    message:
        "Encoding photos and texts of {wildcards.split}, file {wildcards.part}"
    shell:
        "python -m hcma.cache --model {params.model:q} --layouts {input.layouts} --images {input.images}"
        " --label-template={params.template:q} {params.text:q} --device {params.device}"
        " --out {output} > {log} 2>&1"


rule train_alignment:
    input:
        train=plan.latents("train"),
        heldout=plan.latents("heldout"),
    output:
        weights=plan.path.alignment,
        curves=plan.path.curves,
    log:
        plan.path.log("train_alignment"),
    benchmark:
        plan.path.benchmark("train_alignment")
    priority: 10
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("train_alignment"),
        gpu=plan.training_gpus,
    params:
        key=plan.training_key,
        work=plan.path.work("alignment"),
        config=plan.untracked(plan.path.config),
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
        alignment=plan.alignment,
        latents=plan.latents("heldout"),
    output:
        eta=plan.path.eta,
        candidates=list(plan.candidates.values()),
    log:
        plan.path.log("calibrate_eta"),
    priority: 10
    conda:
        "../envs/harness.yaml"
    params:
        key=plan.calibration_key,
        method=plan.settings.alignment.method,
        step=plan.settings.alignment.calibrate.relative_step,
        latents=plan.settings.alignment.calibrate.count,
        multiples=plan.settings.alignment.calibrate.multiples,
        config=plan.untracked(plan.path.config),
    message:
        "Calibrating eta on held-out latents"
    shell:
        "python -m hcma.calibrate --alignment {input.alignment} --latents {input.latents} --config {params.config}"
        " --method {params.method} --relative-step {params.step} --count {params.latents}"
        " --multiples {params.multiples} --out {output.eta} > {log} 2>&1"


rule choose_eta:
    input:
        eta=plan.path.eta,
        reference=plan.path.metrics(plan.settings.alignment.reference, "heldout"),
        scores=plan.path.scores(plan.settings.alignment.reference, "heldout"),
        candidates=[plan.path.metrics(row, "heldout") for row in plan.candidates],
        specs=[plan.path.spec(row) for row in plan.candidates],
    output:
        plan.path.calibration,
    log:
        plan.path.log("choose_eta"),
    priority: 10
    conda:
        "../envs/harness.yaml"
    message:
        "Choosing eta by held-out metrics"
    shell:
        "python -m evaluation.select_eta --key eta --reference {input.reference} --scores {input.scores}"
        " --candidates {input.candidates} --specs {input.specs} --out {output} > {log} 2>&1"
