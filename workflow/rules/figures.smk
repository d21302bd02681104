# The figures, each as PNG and SVG.


def figure_inputs(wildcards):
    # By the option of evaluation.figures that takes them.
    test = f"{R}/layouts/test.jsonl"
    found = {
        "panel": {
            "layouts": test,
            "images": [
                f"{R}/samples/{row}/test/{shard}.zip" for row in ROWS for shard in shards("test")
            ],
        },
        "metrics": {"metrics": metrics_of(ORDERED)},
        "sizes": {"sizes": [f"{R}/sizes/{row}/test.csv" for row in ORDERED]},
        "categories": {
            "regions": [f"{R}/regions/test/{shard}.parquet" for shard in shards("test")],
            "scores": [f"{R}/scores/{row}/test.parquet" for row in ORDERED],
        },
        "training": {"curves": f"{R}/train/curves.csv"},
        "calibration": {"calibration": f"{R}/train/calibration.json"},
    }[wildcards.figure]
    return (
        found
        if wildcards.figure in ("training", "calibration")
        else found | {"published": PUBLISHED}
    )


def figure_options(wildcards, input):
    # The panel finds its images by the shards that its layouts are in.
    words = [
        word
        for option, paths in input.items()
        if option != "images"
        for word in (f"--{option}", *([paths] if isinstance(paths, str) else paths))
    ]
    words += ["--labels", *LABELS] if "published" in input.keys() else []
    words += ["--methods", *ORDERED] if wildcards.figure in ("panel", "categories") else []
    if wildcards.figure == "panel":
        words += ["--samples", f"{R}/samples", "--shard-size", str(config["data"]["shard_size"])]
    if wildcards.figure == "calibration":
        words += ["--key", "eta"]
    return shlex.join(words)


localrules:
    draw,


rule draw:
    input:
        unpack(figure_inputs),
    output:
        png=report(
            f"{R}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        svg=f"{R}/figures/{{figure}}.svg",
    log:
        f"{R}/logs/draw/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../envs/harness.yaml"
    params:
        options=figure_options,
        out=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Drawing the figure {wildcards.figure}"
    shell:
        "python -m evaluation.figures {wildcards.figure} {params.options} --out {params.out} > {log} 2>&1"
