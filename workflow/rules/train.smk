# The alignment module: cached latents, training, and eta, which the paper leaves open, calibrated on held-out data.


localrules:
    calibrate_eta,
    choose_eta,


rule cache_latents:
    input:
        layouts=lambda wildcards: expand(
            f"{R}/layouts/{wildcards.split}/{{shard}}.jsonl",
            shard=encoded_shards(wildcards),
        ),
        images=lambda wildcards: expand(
            f"{R}/samples/real/{wildcards.split}/{{shard}}.zip",
            shard=encoded_shards(wildcards),
        ),
        weights=ancient(lambda wildcards: sums_of(config["models"][ALIGNMENT["base"]])),
        text=ancient(lambda wildcards: [] if OWN_TEXT else sums_of(TEXT_FOLDER)),
    output:
        f"{R}/train/latents/{{split}}/{{part}}.safetensors",
    log:
        f"{R}/logs/cache_latents/{{split}}-{{part}}.log",
    benchmark:
        f"{R}/benchmarks/cache_latents/{{split}}-{{part}}.jsonl"
    wildcard_constraints:
        part="[0-9]{4}",
    priority: 10
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("cache_latents"),
        gpu=config["resources"]["gpu"],
        device=DEVICE,
    params:
        model=lambda wildcards: config["models"][ALIGNMENT["base"]],
        template=lambda wildcards: ALIGNMENT["model"].get("label_template", "{label}"),
        text=lambda wildcards: (
            [] if OWN_TEXT else ["--text", TEXT_FOLDER, "--text-feature", TEXT["feature"]]
        ),
    message:
        "Encoding photos and texts of {wildcards.split}, file {wildcards.part}"
    shell:
        "python -m hcma.cache --model {params.model:q} --layouts {input.layouts} --images {input.images}"
        " --label-template={params.template:q} {params.text:q} --device {resources.device} --out {output} > {log} 2>&1"


TRAINING_GPUS = config["resources"].get("train_gpu", config["resources"]["gpu"])
# What starts the processes of a training, one a GPU. Weights, losses and precision are the program's own affair.
LAUNCHER = "python"
if TRAINING_GPUS > 1:
    LAUNCHER = (
        f"accelerate launch --multi_gpu --num_processes {TRAINING_GPUS} --num_machines 1 --mixed_precision no"
        " --dynamo_backend no"
    )
LAUNCHER = config["resources"].get("train_launcher", LAUNCHER)


rule train_alignment:
    input:
        train=latents("train"),
        heldout=latents("heldout"),
        config=f"{R}/config/alignment.json",
    output:
        weights=f"{R}/train/alignment.safetensors",
        curves=f"{R}/train/curves.csv",
        plot=f"{R}/train/curves.png",
    log:
        f"{R}/logs/train_alignment.log",
    benchmark:
        f"{R}/benchmarks/train_alignment.jsonl"
    priority: 10
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("train_alignment"),
        gpu=TRAINING_GPUS,
        # No parameters: to change them must not train anew.
        micro_batch=MICRO_BATCH["alignment"],
        device=DEVICE,
        launcher=LAUNCHER,
    params:
        # The checkpoint lives outside the outputs, which Snakemake deletes when a job fails.
        work=f"{R}/work/alignment",
    message:
        "Training the alignment module"
    shell:
        "{resources.launcher} -m hcma.train --train {input.train} --heldout {input.heldout} --config {input.config}"
        " --micro-batch {resources.micro_batch} --work {params.work} --device {resources.device}"
        " --out {output.weights} --curves {output.curves} > {log} 2>&1"


rule calibrate_eta:
    input:
        alignment=f"{TRAINED}/alignment.safetensors",
        latents=latents("heldout"),
        stanza=f"{R}/config/method-{ALIGNMENT['method']}.json",
    output:
        f"{R}/train/eta.json",
        [f"{R}/{path}" for path in CANDIDATES.values()],
    log:
        f"{R}/logs/calibrate_eta.log",
    priority: 10
    conda:
        "../envs/harness.yaml"
    params:
        calibrate=ALIGNMENT["calibrate"],
        multiples=ALIGNMENT["calibrate"]["multiples"],
    message:
        "Calibrating eta on held-out latents"
    shell:
        "python -m hcma.calibrate --alignment {input.alignment} --latents {input.latents} --stanza {input.stanza}"
        " --relative-step {params.calibrate[relative_step]} --count {params.calibrate[count]} --multiples {params.multiples}"
        " --out {output[0]} > {log} 2>&1"


rule choose_eta:
    input:
        eta=f"{R}/train/eta.json",
        reference=f"{R}/metrics/{ALIGNMENT['reference']}/heldout.json",
        scores=f"{R}/scores/{ALIGNMENT['reference']}/heldout.parquet",
        candidates=expand(f"{R}/metrics/{{candidate}}/heldout.json", candidate=CANDIDATES),
        specs=expand(f"{R}/methods/{{candidate}}.json", candidate=CANDIDATES),
    output:
        f"{R}/train/calibration.json",
    log:
        f"{R}/logs/choose_eta.log",
    priority: 10
    conda:
        "../envs/harness.yaml"
    message:
        "Choosing eta by held-out metrics"
    shell:
        "python -m evaluation.choose --key eta --reference {input.reference} --scores {input.scores}"
        " --candidates {input.candidates} --specs {input.specs} --out {output} > {log} 2>&1"
