# Region crops, features and metrics: every method is a stranger's zip of images.


localrules:
    tabulate_regions,


rule tabulate_regions:
    input:
        f"{R}/layouts/{{split}}/{{shard}}.jsonl",
    output:
        f"{R}/regions/{{split}}/{{shard}}.parquet",
    log:
        f"{R}/logs/tabulate_regions/{{split}}-{{shard}}.log",
    priority: 20
    conda:
        "../envs/harness.yaml"
    params:
        size=config["data"]["size"],
        protocol=lambda wildcards: protocol(),
    message:
        "Tabulating region crops of {wildcards.split}, shard {wildcards.shard}"
    shell:
        "python -m evaluation.regions --layouts {input} --size {params.size} {params.protocol}"
        " --out {output} > {log} 2>&1"


rule export_crops:
    input:
        images=f"{R}/samples/{{method}}/{{split}}/{{shard}}.zip",
        regions=f"{R}/regions/{{split}}/{{shard}}.parquet",
        layouts=f"{R}/layouts/{{split}}/{{shard}}.jsonl",
    output:
        f"{R}/crops/{{method}}/{{split}}/{{shard}}.zip",
    log:
        f"{R}/logs/export_crops/{{method}}-{{split}}-{{shard}}.log",
    conda:
        "../envs/harness.yaml"
    message:
        "Exporting crops of {wildcards.method}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m evaluation.crops --images {input.images} --regions {input.regions} --layouts {input.layouts}"
        " --out {output} > {log} 2>&1"


rule crops:
    input:
        lambda wildcards: expand(
            f"{R}/crops/{{method}}/test/{{shard}}.zip",
            method=ROWS,
            shard=shards("test"),
        ),


rule extract_features:
    input:
        layouts=f"{R}/layouts/{{split}}/{{shard}}.jsonl",
        images=f"{R}/samples/{{method}}/{{split}}/{{shard}}.zip",
        regions=f"{R}/regions/{{split}}/{{shard}}.parquet",
        weights=plan.extractors_made,
    output:
        f"{R}/features/{{method}}/{{split}}/{{shard}}.npz",
    log:
        f"{R}/logs/extract_features/{{method}}-{{split}}-{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/extract_features/{{method}}-{{split}}-{{shard}}.jsonl"
    priority: 7
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("extract_features"),
    params:
        key=plan.extractors_key,
        protocol=lambda wildcards: protocol(),
    message:
        "Extracting features of {wildcards.method}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m evaluation.features --layouts {input.layouts} --images {input.images} --regions {input.regions}"
        " --extractors {plan.path.config} {params.protocol} --out {output} > {log} 2>&1"


# The reference is summed up once for all methods.
rule summarize_reference:
    input:
        lambda wildcards: feature_shards("real", REFERENCE[wildcards.split]),
    output:
        f"{R}/statistics/{{split}}.npz",
    log:
        f"{R}/logs/summarize_reference/{{split}}.log",
    benchmark:
        f"{R}/benchmarks/summarize_reference/{{split}}.jsonl"
    priority: 8
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("summarize_reference"),
    message:
        "Summing up the real images of {wildcards.split}"
    shell:
        "python -m evaluation.statistics --features {input} --out {output} > {log} 2>&1"


rule measure:
    input:
        features=lambda wildcards: feature_shards(wildcards.method, wildcards.split),
        layouts=lambda wildcards: expand(
            f"{R}/layouts/{wildcards.split}/{{shard}}.jsonl",
            shard=sampled_shards(wildcards.split),
        ),
        reference=f"{R}/statistics/{{split}}.npz",
    output:
        metrics=f"{R}/metrics/{{method}}/{{split}}.json",
        scores=f"{R}/scores/{{method}}/{{split}}.parquet",
    log:
        f"{R}/logs/measure/{{method}}-{{split}}.log",
    benchmark:
        f"{R}/benchmarks/measure/{{method}}-{{split}}.jsonl"
    priority: 8
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("measure"),
    params:
        reference_set=lambda wildcards: reference_set(wildcards.split),
    message:
        "Measuring {wildcards.method} on {wildcards.split}"
    shell:
        "python -m evaluation.metrics --method {wildcards.method} --split {wildcards.split}"
        " --layouts {input.layouts} --features {input.features} --reference {input.reference}"
        " --reference-set {params.reference_set} --out {output.metrics} --scores {output.scores} > {log} 2>&1"
