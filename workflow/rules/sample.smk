# A method's specification, and its images, shard by shard.


localrules:
    write_method,


rule write_method:
    input:
        stanza=f"{R}/config/method-{{method}}.json",
        passed=ancient(f"{R}/checks/passed"),
        weights=ancient(lambda wildcards: sums_of(base(wildcards.method))),
        retrained=lambda wildcards: (
            f"{model(wildcards.method)}/SHA256SUMS" if retrained(wildcards.method) else []
        ),
        text=ancient(
            lambda wildcards: [sums_of(path) for path in text_of(wildcards.method).values()]
        ),
        artefacts=lambda wildcards: list(made_for(wildcards.method).values()),
    output:
        f"{R}/methods/{{method}}.json",
    log:
        f"{R}/logs/write_method/{{method}}.log",
    priority: 10
    conda:
        "../envs/harness.yaml"
    params:
        model=lambda wildcards: model(wildcards.method),
        artefacts=lambda wildcards: [
            f"{name}={path}"
            for name, path in (made_for(wildcards.method) | text_of(wildcards.method)).items()
        ],
        trained=trained,
    message:
        "Specifying {wildcards.method}"
    shell:
        "python -m workflow.scripts.write_method --method {wildcards.method} --stanza {input.stanza}"
        " --model {params.model:q} {params.trained} --artefacts {params.artefacts:q} --out {output} > {log} 2>&1"


# Speed alone, so no parameter: those make a row anew when they change.
SPEED = " ".join(
    f"--{name.replace('_', '-')}"
    for name in ("compile", "channels_last")
    if config["resources"].get(name)
)


rule sample:
    input:
        spec=f"{R}/methods/{{method}}.json",
        layouts=f"{R}/layouts/{{split}}/{{shard}}.jsonl",
    output:
        f"{R}/samples/{{method}}/{{split}}/{{shard}}.zip",
    log:
        f"{R}/logs/sample/{{method}}-{{split}}-{{shard}}.log",
    benchmark:
        f"{R}/benchmarks/sample/{{method}}-{{split}}-{{shard}}.jsonl"
    priority: 5
    conda:
        "../envs/harness.yaml"
    threads: config["resources"]["threads"]
    resources:
        **needs("sample"),
        gpu=config["resources"]["gpu"],
        # No parameters: to change them must not sample anew what is done.
        batch_size=config["resources"]["batch_size"],
        device=DEVICE,
    params:
        work=f"{R}/work/samples/{{method}}-{{split}}-{{shard}}",
    message:
        "Sampling {wildcards.method}, {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m hcma.sampling.sample --spec {input.spec} --layouts {input.layouts} --work {params.work}"
        " --batch-size {resources.batch_size} "
        + SPEED
        + " --device {resources.device} --out {output} > {log} 2>&1"


# Held-out candidates decide eta, which HCMA's test rows wait for: no other row goes before them.
use rule sample as sample_heldout with:
    wildcard_constraints:
        split="heldout",
    priority: 9


ruleorder: sample_real > sample_heldout > sample
