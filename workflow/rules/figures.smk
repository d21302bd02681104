# The figures beside the panel, each as PNG and SVG.


localrules:
    draw_metrics,
    draw_sizes,
    draw_categories,
    draw_training,
    draw_calibration,


rule draw_metrics:
    input:
        metrics=expand(f"{R}/metrics/{{method}}/test.json", method=ORDERED),
        published="workflow/config/published.csv",
    output:
        png=report(
            f"{R}/figures/metrics.png",
            caption="../report/metrics.rst",
            category="Figures",
            labels={"figure": "every metric"},
        ),
        svg=f"{R}/figures/metrics.svg",
    log:
        f"{R}/logs/draw/metrics.log",
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Drawing every metric"
    shell:
        "python -m evaluation.figures.metrics --metrics {input.metrics} --published {input.published}"
        " --out {params.out} > {log} 2>&1"


rule measure_by_size:
    input:
        features=lambda wildcards: feature_shards(wildcards.method, "test"),
        reference=f"{R}/statistics/test.npz",
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
        "python -m evaluation.by_size --method {wildcards.method} --features {input.features}"
        " --reference {input.reference} --reference-set {params.reference_set} --out {output} > {log} 2>&1"


rule draw_sizes:
    input:
        sizes=expand(f"{R}/sizes/{{method}}/test.csv", method=ORDERED),
        published="workflow/config/published.csv",
    output:
        png=report(
            f"{R}/figures/sizes.png",
            caption="../report/sizes.rst",
            category="Figures",
            labels={"figure": "distance by sample size"},
        ),
        svg=f"{R}/figures/sizes.svg",
    log:
        f"{R}/logs/draw/sizes.log",
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Drawing distances by sample size"
    shell:
        "python -m evaluation.figures.sizes --sizes {input.sizes} --published {input.published}"
        " --out {params.out} > {log} 2>&1"


rule draw_categories:
    input:
        regions=expand(f"{R}/regions/test/{{shard}}.parquet", shard=shards("test")),
        scores=expand(f"{R}/scores/{{method}}/test.parquet", method=ORDERED),
        published="workflow/config/published.csv",
    output:
        png=report(
            f"{R}/figures/categories.png",
            caption="../report/categories.rst",
            category="Figures",
            labels={"figure": "CLIP by category"},
        ),
        svg=f"{R}/figures/categories.svg",
    log:
        f"{R}/logs/draw/categories.log",
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.png.removesuffix(".png"),
        methods=ORDERED,
    message:
        "Drawing CLIP by category"
    shell:
        "python -m evaluation.figures.categories --regions {input.regions} --methods {params.methods} --scores {input.scores}"
        " --published {input.published}"
        " --out {params.out} > {log} 2>&1"


# Of the alignment module, and of what is trained on the noise loss.
CURVES = {"training": f"{R}/train/curves.csv", "noise_training": f"{R}/train/noise/curves.csv"}


rule draw_training:
    input:
        lambda wildcards: CURVES[wildcards.training],
    output:
        png=report(
            f"{R}/figures/{{training}}.png",
            caption="../report/training.rst",
            category="Figures",
            labels={"figure": "{training}"},
        ),
        svg=f"{R}/figures/{{training}}.svg",
    log:
        f"{R}/logs/draw/{{training}}.log",
    wildcard_constraints:
        training="training|noise_training",
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Drawing the {wildcards.training}"
    shell:
        "python -m evaluation.figures.training --curves {input} --out {params.out} > {log} 2>&1"


rule draw_calibration:
    input:
        f"{R}/train/calibration.json",
    output:
        png=report(
            f"{R}/figures/calibration.png",
            caption="../report/calibration.rst",
            category="Figures",
            labels={"figure": "the choice of eta"},
        ),
        svg=f"{R}/figures/calibration.svg",
    log:
        f"{R}/logs/draw/calibration.log",
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Drawing the choice of eta"
    shell:
        "python -m evaluation.figures.calibration --calibration {input} --key eta"
        " --out {params.out} > {log} 2>&1"
