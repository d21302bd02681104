# What groups of images add to the difference of two rows' distances: measured once a pair, for every table that compares rows.


rule swap_images:
    input:
        features=lambda wildcards: [
            path
            for row in [wildcards.method, *partners(wildcards.method)]
            for path in feature_shards(row, "test")
        ],
        reference=f"{R}/statistics/test.npz",
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
            " ".join(["--row", row, *feature_shards(row, "test")])
            for row in [wildcards.method, *partners(wildcards.method)]
        ),
        reference_set=reference_set("test"),
    message:
        "Swapping images between {wildcards.method} and the rows it is compared with"
    shell:
        "python -m evaluation.swaps {params.rows} --reference {input.reference}"
        " --reference-set {params.reference_set} --out {output} > {log} 2>&1"
