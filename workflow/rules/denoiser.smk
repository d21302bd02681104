# Algorithm 1 to the letter, where `alignment.train.objective` is align+noise: the noise loss behind update (8).


localrules:
    calibrate_training_eta,


use rule calibrate_eta as calibrate_training_eta with:
    input:
        alignment=f"{R}/train/alignment.safetensors",
        latents=latents("heldout"),
        stanza=f"{R}/config/method-{ALIGNMENT['method']}.json",
    output:
        f"{R}/train/noise/training-eta.json",
    log:
        f"{R}/logs/calibrate_training_eta.log",
    params:
        calibrate=ALIGNMENT["calibrate"] | {"relative_step": OF_NOISE.get("relative_step", 0.01)},
        multiples=[],
    message:
        "Calibrating the eta of training"


rule train_denoiser:
    input:
        weights=ancient(lambda wildcards: sums_of(config["models"][ALIGNMENT["base"]])),
        alignment=f"{R}/train/alignment.safetensors",
        eta=f"{R}/train/noise/training-eta.json",
        config=f"{R}/config/denoiser.json",
        train=latents("train"),
        heldout=latents("heldout"),
        train_layouts=expand(f"{R}/layouts/train/{{shard}}.jsonl", shard=shards("train")),
        heldout_layouts=expand(f"{R}/layouts/heldout/{{shard}}.jsonl", shard=shards("heldout")),
    output:
        f"{R}/train/noise/model/SHA256SUMS",
        f"{R}/train/noise/alignment.safetensors",
        f"{R}/train/noise/curves.csv",
        f"{R}/train/noise/curves.png",
    log:
        f"{R}/logs/train_denoiser.log",
    benchmark:
        f"{R}/benchmarks/train_denoiser.jsonl"
    priority: 10
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("train_denoiser"),
        gpu=TRAINING_GPUS,
        # No parameters: to change them must not train anew.
        micro_batch=MICRO_BATCH["denoiser"],
        device=DEVICE,
        launcher=LAUNCHER,
    params:
        model=lambda wildcards: config["models"][ALIGNMENT["base"]],
        work=f"{R}/work/noise",
        out=lambda wildcards: f"{R}/train/noise",
    message:
        "Training the denoiser on the noise loss"
    shell:
        "{resources.launcher} -m hcma.train_denoiser --model {params.model:q} --alignment {input.alignment} --eta {input.eta}"
        " --config {input.config} --train {input.train} --heldout {input.heldout}"
        " --train-layouts {input.train_layouts} --heldout-layouts {input.heldout_layouts}"
        " --micro-batch {resources.micro_batch} --work {params.work} --device {resources.device}"
        " --out {params.out} > {log} 2>&1"
