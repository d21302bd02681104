# Region crops, features, summaries and metrics: every method is a stranger's zip of images.


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
        extractors=f"{R}/config/extractors.json",
        weights=ancient(
            lambda wildcards: [weights_of(row) for row in config["extractors"].values() if row]
        ),
    output:
        temp(f"{R}/features/{{method}}/{{split}}/{{shard}}.npz"),
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
        protocol=lambda wildcards: protocol(),
    message:
        "Extracting features of {wildcards.method}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m evaluation.features --layouts {input.layouts} --images {input.images} --regions {input.regions}"
        " --extractors {input.extractors} {params.protocol} --out {output} > {log} 2>&1"


# Features are summed up once; all that is measured of a row takes its summary.
rule summarize:
    input:
        lambda wildcards: feature_shards(wildcards.method, wildcards.split),
    output:
        f"{R}/summaries/{{method}}/{{split}}.npz",
    log:
        f"{R}/logs/summarize/{{method}}-{{split}}.log",
    benchmark:
        f"{R}/benchmarks/summarize/{{method}}-{{split}}.jsonl"
    priority: 8
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("summarize"),
    message:
        "Summing up {wildcards.method} on {wildcards.split}"
    shell:
        "python -m evaluation.metrics summarize --features {input} --out {output} > {log} 2>&1"


rule measure:
    input:
        summary=f"{R}/summaries/{{method}}/{{split}}.npz",
        real=lambda wildcards: summary_of_real(wildcards.split),
        layouts=lambda wildcards: expand(
            f"{R}/layouts/{wildcards.split}/{{shard}}.jsonl",
            shard=sampled_shards(wildcards.split),
        ),
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
        "python -m evaluation.metrics measure --method {wildcards.method} --split {wildcards.split}"
        " --layouts {input.layouts} --summary {input.summary} --real {input.real}"
        " --reference-set {params.reference_set} --out {output.metrics} --scores {output.scores} > {log} 2>&1"


rule measure_by_size:
    input:
        summary=f"{R}/summaries/{{method}}/test.npz",
        real=lambda wildcards: summary_of_real("test"),
    output:
        f"{R}/sizes/{{method}}/test.csv",
    log:
        f"{R}/logs/measure_by_size/{{method}}.log",
    benchmark:
        f"{R}/benchmarks/measure_by_size/{{method}}.jsonl"
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("measure_by_size"),
    params:
        reference_set=reference_set("test"),
    message:
        "Measuring {wildcards.method} on fewer images"
    shell:
        "python -m evaluation.metrics sizes --method {wildcards.method} --summary {input.summary} --real {input.real}"
        " --reference-set {params.reference_set} --out {output} > {log} 2>&1"


# What groups of images add to the difference of two rows' distances: once a pair, for every table that compares rows.
rule swap_images:
    input:
        summaries=lambda wildcards: summaries_of([wildcards.method, *partners(wildcards.method)]),
        real=lambda wildcards: summary_of_real("test"),
    output:
        f"{R}/swaps/{{method}}.json",
    log:
        f"{R}/logs/swap_images/{{method}}.log",
    benchmark:
        f"{R}/benchmarks/swap_images/{{method}}.jsonl"
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("swap_images"),
    params:
        rows=lambda wildcards: " ".join(
            f"--row {row} {R}/summaries/{row}/test.npz"
            for row in [wildcards.method, *partners(wildcards.method)]
        ),
        reference_set=reference_set("test"),
    message:
        "Swapping images between {wildcards.method} and the rows it is compared with"
    shell:
        "python -m evaluation.metrics swap {params.rows} --real {input.real}"
        " --reference-set {params.reference_set} --out {output} > {log} 2>&1"
