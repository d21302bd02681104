# A finished run as one file, for somebody else.


rule bundle:
    input:
        [f"{plan.path.folder}/{name}" for name in plan.bundled(plan.settings.bundle_images)],
        first_shards=[
            plan.path.samples(row, "test", plan.shards("test")[0])
            for row in [*plan.pictured, *plan.repeats]
        ],
    output:
        plan.path.bundle,
    log:
        plan.path.log("bundle"),
    conda:
        "../envs/harness.yaml"
    resources:
        **plan.needs("bundle"),
    params:
        images="--images" if plan.settings.bundle_images else "",
        config=lambda wildcards: plan.path.config,
    message:
        "Packing {plan.path.folder}"
    shell:
        "python -m workflow.bundle --config {params.config} {params.images} --out {output} > {log} 2>&1"
