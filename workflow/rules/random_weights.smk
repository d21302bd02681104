# Folders of random weights in the hub's file formats, and the check that what is loaded is the architecture it should be.

ARCHITECTURES = config.get("architectures", {})
RANDOM = {name: row for name, row in ARCHITECTURES.items() if "random_seed" in row}
COUNTED = {name: row["kind"] for name, row in ARCHITECTURES.items() if config["models"].get(name)}


rule write_random_weights:
    output:
        f"{R}/weights/{{name}}/SHA256SUMS",
    log:
        f"{R}/logs/write_random_weights/{{name}}.log",
    benchmark:
        f"{R}/benchmarks/write_random_weights/{{name}}.jsonl"
    wildcard_constraints:
        name="|".join(RANDOM) or "none",
    priority: 20
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        mem_mb=config["resources"]["mem_mb"],
        runtime=config["resources"]["runtime"],
    params:
        row=lambda wildcards: RANDOM[wildcards.name],
        out=lambda wildcards: f"{R}/weights/{wildcards.name}",
    message:
        "Writing random weights of {wildcards.name}"
    shell:
        "python -m workflow.scripts.random_weights --architecture {params.row[kind]} --seed {params.row[random_seed]}"
        " --out {params.out} > {log} 2>&1"


rule count_parameters:
    input:
        ancient([f"{config['models'][name]}/SHA256SUMS" for name in COUNTED]),
    output:
        f"{R}/architectures.json",
    log:
        f"{R}/logs/count_parameters.log",
    benchmark:
        f"{R}/benchmarks/count_parameters.jsonl"
    priority: 20
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        mem_mb=config["resources"]["mem_mb"],
        runtime=config["resources"]["runtime"],
    params:
        models=" ".join(
            f"--model {kind} {config['models'][name]}" for name, kind in COUNTED.items()
        ),
    message:
        "Counting the parameters of the loaded models"
    shell:
        "python -m workflow.scripts.count_parameters {params.models} --out {output} > {log} 2>&1"
