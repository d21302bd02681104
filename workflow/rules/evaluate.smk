# Region crops, features, summaries and metrics: every method is a stranger's zip of images.


localrules:
    tabulate_regions,


rule tabulate_regions:
    input:
        plan.path.layout_shard(),
    output:
        plan.path.regions(),
    log:
        plan.path.log("tabulate_regions/{split}-{shard}"),
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        size=plan.settings.data.size,
        protocol=lambda wildcards: plan.protocol,
    message:
        "Tabulating region crops of {wildcards.split}, shard {wildcards.shard}"
    shell:
        "python -m evaluation.regions --layouts {input} --size {params.size} {params.protocol:q}"
        " --out {output} > {log} 2>&1"


# The same regions where a detector finds their objects, of rows whose stanza says so.
rule detect_regions:
    input:
        layouts=plan.path.layout_shard(),
        images=plan.path.samples(),
        regions=plan.path.regions(),
        weights=plan.extractors_made,
    output:
        plan.path.detected_regions(),
    log:
        plan.path.log("detect_regions/{method}-{split}-{shard}"),
    benchmark:
        plan.path.benchmark("detect_regions/{method}-{split}-{shard}")
    priority: 7
    conda:
        "../envs/harness.yaml"
    threads: plan.evaluation_threads
    resources:
        **plan.needs("detect_regions"),
        gpu=plan.evaluation_gpus,
    params:
        key=plan.extractors_key,
        device=plan.untracked(plan.evaluation_device),
        workers=lambda wildcards, output, threads: threads * plan.evaluation_gpus,
        size=plan.settings.data.size,
        protocol=lambda wildcards: plan.protocol,
        config=plan.untracked(plan.path.config),
    message:
        "Finding the regions of {wildcards.method}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m evaluation.detected_regions --layouts {input.layouts} --images {input.images}"
        " --regions {input.regions} --size {params.size} {params.protocol:q} --extractors {params.config}"
        " --device {params.device} --workers {params.workers} --out {output} > {log} 2>&1"


rule export_crops:
    input:
        images=plan.path.samples(),
        regions=lambda wildcards: plan.regions(wildcards.method, wildcards.split, wildcards.shard),
        layouts=plan.path.layout_shard(),
    output:
        plan.path.crops(),
    log:
        plan.path.log("export_crops/{method}-{split}-{shard}"),
    conda:
        "../envs/harness.yaml"
    message:
        "Exporting crops of {wildcards.method}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m evaluation.crops --images {input.images} --regions {input.regions} --layouts {input.layouts}"
        " --out {output} > {log} 2>&1"


rule crops:
    input:
        [
            plan.path.crops(row, "test", shard)
            for row in plan.pictured
            for shard in plan.shards("test")
        ],


rule extract_features:
    input:
        layouts=plan.path.layout_shard(),
        images=plan.path.samples(),
        regions=lambda wildcards: plan.regions(wildcards.method, wildcards.split, wildcards.shard),
        weights=plan.extractors_made,
    output:
        temp(plan.path.features()),
    log:
        plan.path.log("extract_features/{method}-{split}-{shard}"),
    benchmark:
        plan.path.benchmark("extract_features/{method}-{split}-{shard}")
    priority: 7
    conda:
        "../envs/harness.yaml"
    threads: plan.evaluation_threads
    resources:
        **plan.needs("extract_features"),
        gpu=plan.evaluation_gpus,
    params:
        key=plan.extractors_key,
        device=plan.untracked(plan.evaluation_device),
        # On the CPU none: torch itself has the threads.
        workers=lambda wildcards, output, threads: threads * plan.evaluation_gpus,
        protocol=lambda wildcards: plan.protocol,
        config=plan.untracked(plan.path.config),
    message:
        "Extracting features of {wildcards.method}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m evaluation.features --layouts {input.layouts} --images {input.images} --regions {input.regions}"
        " --extractors {params.config} {params.protocol:q} --device {params.device} --workers {params.workers}"
        " --out {output} > {log} 2>&1"


# Features are summed up once; all that is measured of a row takes its summary.
rule summarize:
    input:
        lambda wildcards: plan.features(wildcards.method, wildcards.split),
    output:
        plan.path.summary(),
    log:
        plan.path.log("summarize/{method}-{split}"),
    benchmark:
        plan.path.benchmark("summarize/{method}-{split}")
    priority: 8
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("summarize"),
    message:
        "Summing up {wildcards.method} on {wildcards.split}"
    shell:
        "python -m evaluation.metrics summarize --features {input} --out {output} > {log} 2>&1"


# A row of a bundle without images: its summary, where layouts, networks and protocol are those of this run.
rule take_summary:
    input:
        layouts=plan.layout_shards("test"),
        bundle=lambda wildcards: linked(plan.settings.methods[wildcards.method].bundle),
        like=plan.summarized_like,
    output:
        plan.path.summary(split="test"),
    log:
        plan.path.log("take_summary/{method}"),
    wildcard_constraints:
        method="|".join(plan.summarized) or "none",
    conda:
        "../envs/harness.yaml"
    params:
        row=lambda wildcards: plan.settings.methods[wildcards.method].row or wildcards.method,
        made_by=lambda wildcards: plan.elsewhere[wildcards.method],
        crops=lambda wildcards: plan.settings.methods[wildcards.method].crops,
    message:
        "Taking the summary of {wildcards.method} from its bundle"
    shell:
        "python -m evaluation.bundles --bundle {input.bundle:q} --row {params.row} --made-by={params.made_by:q}"
        " --crops {params.crops} --layouts {input.layouts}"
        " --like {input.like} --out {output} > {log} 2>&1"


ruleorder: take_summary > summarize


rule measure:
    input:
        summary=plan.path.summary(),
        real=lambda wildcards: plan.real_summary(wildcards.split),
        layouts=lambda wildcards: plan.layout_shards(wildcards.split),
    output:
        metrics=plan.path.metrics(),
        scores=plan.path.scores(),
        across=plan.path.across(),
    log:
        plan.path.log("measure/{method}-{split}"),
    benchmark:
        plan.path.benchmark("measure/{method}-{split}")
    priority: 8
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("measure"),
    params:
        reference_set=lambda wildcards: plan.reference_set(wildcards.split),
        real=lambda wildcards, input: ["--real", *input.real] if input.real else [],
        metrics=plan.metrics_key,
        config=plan.untracked(plan.path.config),
    message:
        "Measuring {wildcards.method} on {wildcards.split}"
    shell:
        "python -m evaluation.metrics measure --method {wildcards.method} --split {wildcards.split}"
        " --layouts {input.layouts} --summary {input.summary} {params.real:q} --own {params.config}"
        " --reference-set {params.reference_set} --out {output.metrics} --scores {output.scores}"
        " --across {output.across} > {log} 2>&1"


rule measure_by_size:
    input:
        summary=plan.path.summary(split="test"),
        real=plan.real_summary("test"),
    output:
        plan.path.sizes(),
    log:
        plan.path.log("measure_by_size/{method}"),
    benchmark:
        plan.path.benchmark("measure_by_size/{method}")
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("measure_by_size"),
    params:
        reference_set=plan.reference_set("test"),
    message:
        "Measuring {wildcards.method} on fewer images"
    shell:
        "python -m evaluation.metrics sizes --method {wildcards.method} --summary {input.summary} --real {input.real}"
        " --reference-set {params.reference_set} --out {output} > {log} 2>&1"


# What groups of images add to the difference of two rows' distances: once a pair, for every table that compares rows.
rule swap_images:
    input:
        summaries=lambda wildcards: [
            plan.path.summary(row, "test")
            for row in [wildcards.method, *plan.partners(wildcards.method)]
        ],
        across=lambda wildcards: [
            plan.path.across(row, "test")
            for row in [wildcards.method, *plan.partners(wildcards.method)]
        ],
        real=plan.real_summary("test"),
    output:
        plan.path.swaps(),
    log:
        plan.path.log("swap_images/{method}"),
    benchmark:
        plan.path.benchmark("swap_images/{method}")
    conda:
        "../envs/harness.yaml"
    threads: plan.settings.resources.threads
    resources:
        **plan.needs("swap_images"),
    params:
        rows=lambda wildcards: products.swapped(
            plan, [wildcards.method, *plan.partners(wildcards.method)]
        ),
        reference_set=plan.reference_set("test"),
        metrics=plan.metrics_key,
        config=plan.untracked(plan.path.config),
    message:
        "Swapping images between {wildcards.method} and the rows it is compared with"
    shell:
        "python -m evaluation.metrics swap {params.rows} --real {input.real} --own {params.config}"
        " --reference-set {params.reference_set} --out {output} > {log} 2>&1"
