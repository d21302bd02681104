# Algorithm 1 to the letter, where `alignment.train.objective` is align+noise: the noise loss behind update (8).


localrules:
    calibrate_training_eta,


use rule calibrate_eta as calibrate_training_eta with:
    input:
        alignment=lambda wildcards: plan.untuned_module(wildcards.variant),
        latents=lambda wildcards: plan.latents("heldout", wildcards.variant),
    output:
        eta=f"{plan.path.train().noise}/training-eta.json",
    log:
        plan.path.log("calibrate_training_eta{variant}"),
    params:
        key=lambda wildcards: plan.variants[wildcards.variant].training_eta_key,
        method=lambda wildcards: plan.variants[wildcards.variant].row,
        step=lambda wildcards: plan.variants[
            wildcards.variant
        ].alignment.train.denoiser.relative_step,
        latents=plan.settings.alignment.calibrate.count,
        multiples=[],
        config=plan.sections,
    message:
        "Calibrating the eta of training"


rule train_denoiser:
    input:
        weights=plan.weights_made(plan.settings.alignment.base),
        alignment=lambda wildcards: plan.untuned_module(wildcards.variant),
        eta=f"{plan.path.train().noise}/training-eta.json",
        train=lambda wildcards: plan.latents("train", wildcards.variant),
        heldout=lambda wildcards: plan.latents("heldout", wildcards.variant),
        train_layouts=[plan.path.layout_shard("train", shard) for shard in plan.shards("train")],
        heldout_layouts=[
            plan.path.layout_shard("heldout", shard) for shard in plan.shards("heldout")
        ],
    output:
        f"{plan.path.train().noise}/model/SHA256SUMS",
        f"{plan.path.train().noise}/alignment.safetensors",
        f"{plan.path.train().noise}/curves.csv",
    log:
        plan.path.log("train_denoiser{variant}"),
    benchmark:
        plan.path.benchmark("train_denoiser{variant}")
    priority: 10
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("train_denoiser"),
        gpu=plan.training_gpus,
    params:
        key=lambda wildcards: plan.variants[wildcards.variant].noise_key,
        models=plan.model_keys([plan.settings.alignment.base]),
        model=plan.aligned_model,
        work=plan.path.work("noise{variant}"),
        out=lambda wildcards: plan.path.train(wildcards.variant).noise,
        config=plan.sections,
        launcher=plan.untracked(plan.launcher),
        device=plan.untracked(plan.settings.resources.device),
    message:
        "Training the denoiser on the noise loss"
    shell:
        "{params.launcher} -m hcma.train_denoiser --model {params.model:q} --alignment {input.alignment} --eta {input.eta}"
        " --config {params.config} --train {input.train} --heldout {input.heldout}"
        " --train-layouts {input.train_layouts} --heldout-layouts {input.heldout_layouts}"
        " --work {params.work} --device {params.device} --out {params.out} > {log} 2>&1"
