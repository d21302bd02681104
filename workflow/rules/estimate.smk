# `snakemake estimate`: what sampling and training will cost, from a pilot on the configured device; it needs no weights and no data.

SAMPLED = {row: (row, "test") for row in [*ORDERED, *REPEATS] if row != "real"}
# Held-out images, by which eta is chosen: of its candidates and of the row that they are judged against.
SAMPLED |= {row: (row, "heldout") for row in CANDIDATES}
SAMPLED[f"{ALIGNMENT['reference']}, held out"] = (ALIGNMENT["reference"], "heldout")
IMAGES = {
    "test": config["data"]["test"]["count"],
    "heldout": ALIGNMENT["calibrate"].get("images", config["data"]["heldout"]["count"]),
}
SECTIONS["estimate"] = {
    "methods": {
        name: SECTIONS[f"method-{row}"] | {"row": row, "split": split, "images": IMAGES[split]}
        for name, (row, split) in SAMPLED.items()
    },
    "photos": sum(config["data"][split]["count"] for split in PHOTOS),
    "trained_on": sum(config["data"][split]["count"] for split in ("train", "heldout")),
    "models": config["models"],
    "alignment": ALIGNMENT["model"],
    # What does not fill a batch is left out of its epoch.
    "images_trained": ALIGN["epochs"]
    * (config["data"]["train"]["count"] // ALIGN["batch"])
    * ALIGN["batch"],
    "size": config["data"]["size"],
    "shard_size": config["data"]["shard_size"],
    "most_boxes": config["data"]["boxes"]["max"],
    "batch_size": config["resources"]["batch_size"],
}


localrules:
    estimate,


rule pilot:
    input:
        f"{R}/config/estimate.json",
    output:
        f"{R}/pilot.json",
    log:
        f"{R}/logs/pilot.log",
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("pilot"),
        gpu=config["resources"]["gpu"],
    params:
        device=DEVICE,
    message:
        "Timing the networks on {params.device}"
    shell:
        "python -m workflow.benchmarks pilot --plan {input} --device {params.device} --out {output} > {log} 2>&1"


# Without output: it is made anew each time, since what has been spent changes.
rule estimate:
    input:
        plan=f"{R}/config/estimate.json",
        pilot=f"{R}/pilot.json",
    log:
        f"{R}/logs/estimate.log",
    conda:
        "../envs/harness.yaml"
    params:
        samples=lambda wildcards: f"{R}/samples",
        out=lambda wildcards: f"{R}/estimate",
    message:
        "Estimating the cost of {R}"
    shell:
        "python -m workflow.benchmarks estimate --plan {input.plan} --pilot {input.pilot} --samples {params.samples}"
        " --out {params.out} 2> {log}"
