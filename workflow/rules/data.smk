# COCO's annotations and photos, drawn or real, to layouts in shards, and the row `real`.


localrules:
    write_section,
    check_methods,
    check_room,
    pass_checks,


rule draw_coco:
    output:
        photos=expand(f"{R}/coco/{{name}}.zip", name=find_dataset("coco").SETS),
        annotations=expand(f"{R}/coco/{{name}}", name=find_dataset("coco").ANNOTATIONS),
    log:
        f"{R}/logs/draw_coco.log",
    benchmark:
        f"{R}/benchmarks/draw_coco.jsonl"
    conda:
        "../envs/harness.yaml"
    params:
        draw=config["data"]["draw"] or {"train": 0, "val": 0, "seed": 0},
        out=lambda wildcards: f"{R}/coco",
    message:
        "Drawing a COCO of coloured shapes"
    shell:
        "python -m workflow.scripts.miniature.draw --out {params.out} --train {params.draw[train]}"
        " --val {params.draw[val]} --seed {params.draw[seed]} > {log} 2>&1"


# What only the noise loss asks for, denoiser.smk: the training before it does not depend on that.
ALIGN = dict(ALIGNMENT["train"])
ALIGN.pop("objective", None)
OF_NOISE = {key: ALIGN.pop(key) for key in ("train_denoiser", "second_order") if key in ALIGN}
OF_NOISE |= ALIGN.pop("denoiser", {})
# Memory alone, so not in the sections: to change it must not train anew what is done.
MICRO_BATCH = {"alignment": ALIGN.pop("micro_batch"), "denoiser": OF_NOISE.pop("micro_batch")}
SECTIONS = {
    "data": config["data"],
    "extractors": config["extractors"],
    "alignment": {"model": ALIGNMENT["model"], "train": ALIGN},
    "denoiser": {
        "train": ALIGN,
        "denoiser": OF_NOISE,
        "params": stanza(ALIGNMENT["method"]).get("params", {}),
    },
} | {
    f"method-{name}": {"stanza": stanza(name), "sampling": config["sampling"]}
    for name in [*METHODS, *CANDIDATES, *REPEATS]
}
SECTIONS["methods"] = {name: SECTIONS[f"method-{name}"] for name in METHODS}


rule write_section:
    output:
        f"{R}/config/{{section}}.json",
    log:
        f"{R}/logs/write_section/{{section}}.log",
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        content=lambda wildcards: as_json(SECTIONS[wildcards.section]),
    message:
        "Writing the configuration of {wildcards.section}"
    shell:
        "python -m workflow.scripts.write_json --out {output} {params.content:q} > {log} 2>&1"


# First of all, before any download: what is cheap to check.
rule check_methods:
    input:
        f"{R}/config/methods.json",
    output:
        f"{R}/checks/methods.json",
    log:
        f"{R}/logs/check_methods.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    message:
        "Checking the parameters of the methods"
    shell:
        "python -m workflow.scripts.check_methods --methods {input} --out {output} > {log} 2>&1"


rule check_room:
    output:
        f"{R}/checks/room.json",
    log:
        f"{R}/logs/check_room.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    # No input and no parameter: what waits for a job that is made anew is not looked at itself in that run.
    resources:
        estimate=lambda wildcards: as_json(SECTIONS["estimate"]),
    params:
        run=lambda wildcards: R,
    message:
        "Checking that the disk has room for the run"
    shell:
        "python -m workflow.scripts.room --estimate {resources.estimate:q} --run {params.run} --out {output} > {log} 2>&1"


# Where the work will run: on a cluster, on a node with a GPU.
rule check_device:
    output:
        f"{R}/checks/device.json",
    log:
        f"{R}/logs/check_device.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    resources:
        **needs("check_device"),
        gpu=config["resources"]["gpu"],
    params:
        device=DEVICE,
    message:
        "Checking that there is a device {params.device}"
    shell:
        "python -m workflow.scripts.check_device --device {params.device} --out {output} > {log} 2>&1"


# All else waits for this file, which outlives a check that fails: Snakemake makes anew whatever waits for a file that is gone.
# Those who wait take it as `ancient`: a changed stanza changes no layout, another device no image.
rule pass_checks:
    input:
        f"{R}/checks/methods.json",
        f"{R}/checks/room.json",
        [] if DEVICE == "cpu" else f"{R}/checks/device.json",
    output:
        f"{R}/checks/passed",
    log:
        f"{R}/logs/pass_checks.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    message:
        "The checks before the run are passed"
    shell:
        "touch {output} 2> {log}"


rule prepare_layouts:
    input:
        passed=ancient(f"{R}/checks/passed"),
        annotations=lambda wildcards: annotations_of(ROOT),
        # Held against their records; a folder of the user's own is looked into without being watched.
        photos=lambda wildcards: archives_of(*SPLITS),
        config=f"{R}/config/data.json",
        words=lambda wildcards: stated(config["data"]["words"]),
    output:
        expand(f"{R}/layouts/{{split}}.jsonl", split=SPLITS),
        [f"{R}/layouts/{split}/{shard}.jsonl" for split in SPLITS for shard in shards(split)],
        report=f"{R}/layouts/report.json",
    log:
        f"{R}/logs/prepare_layouts.log",
    benchmark:
        f"{R}/benchmarks/prepare_layouts.jsonl"
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        dataset=DATASET,
        root=lambda wildcards: ROOT,
        size=config["data"]["shard_size"],
        out=lambda wildcards: f"{R}/layouts",
    message:
        "Preparing layouts of the data set {params.dataset}"
    shell:
        "python -m evaluation.datasets {params.dataset} --root {params.root:q} --config {input.config}"
        " --shard-size {params.size} --out {params.out} > {log} 2>&1"


# Seconds each, and the longest chain of jobs begins with them.
rule sample_real:
    input:
        lambda wildcards: archives_of(wildcards.split),
        layouts=f"{R}/layouts/{{split}}/{{shard}}.jsonl",
    output:
        f"{R}/samples/real/{{split}}/{{shard}}.zip",
    log:
        f"{R}/logs/sample/real-{{split}}-{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/sample/real-{{split}}-{{shard}}.jsonl"
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        root=lambda wildcards: ROOT,
        dataset=DATASET,
        size=config["data"]["size"],
        resize=config["data"]["resize"],
        exif=config["data"]["exif"],
    message:
        "Cropping photos of {wildcards.split}, shard {wildcards.shard}"
    shell:
        "python -m evaluation.datasets.real --dataset {params.dataset} --root {params.root:q} --split {wildcards.split}"
        " --layouts {input.layouts} --size {params.size} --resize {params.resize} --exif {params.exif} --out {output} > {log} 2>&1"
