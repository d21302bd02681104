# COCO's annotations and photos, drawn or real, to layouts, their slices, and the row `real`.


localrules:
    slice_layouts,


rule draw_coco:
    output:
        photos=[f"{plan.path.coco}/{split}2014.zip" for split in ("train", "val")],
        annotations=expand(
            f"{plan.path.coco}/annotations/{{kind}}_{{split}}2014.json",
            kind=["instances", "captions"],
            split=["train", "val"],
        ),
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
        "python -m workflow.scripts.miniature.draw --out {params.out} {params.draw} > {log} 2>&1"


rule prepare_layouts:
    input:
        annotations=plan.annotations,
        # Held against their records; a folder of the user's own is looked into without being watched.
        photos=[path for photos in ("train2014", "val2014") for path in plan.archive(photos)],
        words=plan.words,
    output:
        [plan.path.layouts(split) for split in plan.splits],
        report=plan.path.left_out,
    log:
        plan.path.log("prepare_layouts"),
    benchmark:
        plan.path.benchmark("prepare_layouts")
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        key=plan.data_key,
        root=lambda wildcards: plan.coco,
        out=lambda wildcards: f"{plan.path.folder}/layouts",
    message:
        "Preparing layouts from COCO annotations"
    shell:
        "python -m evaluation.coco --root {params.root:q} --config {plan.path.config} --out {params.out} > {log} 2>&1"


rule slice_layouts:
    input:
        plan.path.layouts(),
    output:
        plan.path.layout_shard(),
    log:
        plan.path.log("slice_layouts/{split}-{shard}"),
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        size=plan.settings.data.shard_size,
    message:
        "Slicing {wildcards.split} layouts, shard {wildcards.shard}"
    shell:
        "python -m evaluation.slice --layouts {input} --shard {wildcards.shard} --shard-size {params.size}"
        " --out {output} > {log} 2>&1"


# Seconds each, and the longest chain of jobs begins with them.
rule sample_real:
    input:
        lambda wildcards: plan.archive(plan.splits[wildcards.split]),
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
        root=lambda wildcards: plan.coco,
        photos=lambda wildcards: plan.splits[wildcards.split],
        size=plan.settings.data.size,
        resize=plan.settings.data.resize,
        exif=plan.settings.data.exif,
    message:
        "Cropping photos of {wildcards.split}, shard {wildcards.shard}"
    shell:
        "python -m evaluation.real --root {params.root:q} --photos {params.photos} --layouts {input.layouts}"
        " --size {params.size} --resize {params.resize} --exif {params.exif} --out {output} > {log} 2>&1"
