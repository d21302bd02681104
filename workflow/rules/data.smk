# COCO's annotations and photos, drawn or real, to layouts in shards, and the row `real`.
from evaluation.datasets import coco


rule draw_coco:
    output:
        photos=[f"{plan.path.coco}/{name}.zip" for name in coco.SETS],
        annotations=[f"{plan.path.coco}/{name}" for name in coco.ANNOTATIONS],
    log:
        plan.path.log("draw_coco"),
    benchmark:
        plan.path.benchmark("draw_coco")
    conda:
        "../envs/harness.yaml"
    params:
        draw=plan.drawn,
        out=lambda wildcards: plan.path.coco,
    message:
        "Drawing a COCO of coloured shapes"
    shell:
        "python -m workflow.miniature.draw --out {params.out} {params.draw} > {log} 2>&1"


rule prepare_layouts:
    input:
        annotations=plan.annotations,
        # Held against their records; a folder of the user's own is looked into without being watched.
        photos=plan.archives(*plan.splits),
        words=plan.words,
    output:
        [plan.path.layouts(split) for split in plan.splits],
        [
            plan.path.layout_shard(split, shard)
            for split in plan.splits
            for shard in plan.shards(split)
        ],
        report=plan.path.left_out,
    log:
        plan.path.log("prepare_layouts"),
    benchmark:
        plan.path.benchmark("prepare_layouts")
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        key=plan.layouts_key,
        dataset=plan.settings.data.dataset,
        root=lambda wildcards: plan.set_options,
        size=plan.settings.data.shard_size,
        out=lambda wildcards: f"{plan.path.folder}/layouts",
        config=plan.untracked(plan.path.config),
    message:
        "Preparing layouts of the data set {params.dataset}, or of the sources"
    shell:
        "python -m evaluation.datasets {params.dataset} {params.root:q} --config {params.config}"
        " --shard-size {params.size} --out {params.out} > {log} 2>&1"


# Seconds each, and the longest chain of jobs begins with them.
rule sample_real:
    input:
        lambda wildcards: plan.archives(wildcards.split),
        layouts=plan.path.layout_shard(),
    output:
        plan.path.samples("real"),
    log:
        plan.path.log("sample/real-{split}-{shard}"),
    benchmark:
        plan.path.benchmark("sample/real-{split}-{shard}")
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        photos=lambda wildcards: plan.photos(wildcards.split),
        size=plan.settings.data.size,
        exif=plan.settings.data.exif,
    message:
        "Cropping photos of {wildcards.split}, shard {wildcards.shard}"
    shell:
        "python -m evaluation.datasets.real {params.photos:q} --layouts {input.layouts} --size {params.size}"
        " --exif {params.exif} --out {output} > {log} 2>&1"


# Before what is expensive: a row made elsewhere whose images are not right ends the run here.
rule import_images:
    input:
        layouts=plan.layout_shards("test"),
    output:
        [plan.path.samples(split="test", shard=shard) for shard in plan.shards("test")],
    log:
        plan.path.log("import_images/{method}"),
    benchmark:
        plan.path.benchmark("import_images/{method}")
    wildcard_constraints:
        method="|".join(plan.imported) or "none",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        key=lambda wildcards: plan.import_keys[wildcards.method],
        options=lambda wildcards: plan.outside_row(wildcards.method).options(),
        out=lambda wildcards: f"{plan.path.folder}/samples/{wildcards.method}/test",
    message:
        "Importing the images of {wildcards.method}"
    shell:
        "python -m evaluation.datasets.outside {params.options:q} --layouts {input.layouts} --out {params.out} > {log} 2>&1"
