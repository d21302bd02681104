# Folders of random weights in the hub's file formats, and the check that what is loaded is the architecture it should be.

ARCHITECTURES = config.get("architectures", {})
RANDOM = {name: row for name, row in ARCHITECTURES.items() if "random_seed" in row}
COUNTED = [name for name in ARCHITECTURES if config["models"].get(name)]


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
        **needs("write_random_weights"),
    params:
        row=lambda wildcards: RANDOM[wildcards.name],
        out=lambda wildcards: f"{R}/weights/{wildcards.name}",
    message:
        "Writing random weights of {wildcards.name}"
    shell:
        "python -m workflow.random_weights --architecture {params.row[kind]} --seed {params.row[random_seed]}"
        " --out {params.out} > {log} 2>&1"


rule count_parameters:
    input:
        ancient(lambda wildcards: sums_of(config["models"][wildcards.name])),
    output:
        f"{R}/architectures/{{name}}.json",
    log:
        f"{R}/logs/count_parameters/{{name}}.log",
    benchmark:
        f"{R}/benchmarks/count_parameters/{{name}}.jsonl"
    wildcard_constraints:
        name="|".join(COUNTED) or "none",
    priority: 15
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("count_parameters"),
    params:
        architecture=lambda wildcards: ARCHITECTURES[wildcards.name]["kind"],
        model=lambda wildcards: config["models"][wildcards.name],
    message:
        "Counting the parameters of {wildcards.name} as loaded"
    shell:
        "python -m workflow.random_weights.count --architecture {params.architecture} --model {params.model:q}"
        " --out {output} > {log} 2>&1"
