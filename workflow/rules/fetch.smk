# What is published, fetched into one folder that all runs share: snakemake fetch. Nothing comes before its licence is accepted.


# Where jobs go to a cluster, its nodes often have no way out.
localrules:
    check_licences,
    write_plan,
    write_identity,
    fetch_file,
    fetch_model,
    unpack_annotations,
    fetch,


import json
import re


def as_json(content):
    return json.dumps(content, sort_keys=True)


LICENCES = f"{plan.downloads.folder}/LICENCES.json"
PLAN = f"{plan.downloads.folder}/plan.json"


rule check_licences:
    output:
        LICENCES,
    log:
        f"{plan.downloads.folder}/logs/check_licences.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        needed=lambda wildcards: as_json(plan.downloads.licences(plan.settings.fetch.licences)),
        accept=lambda wildcards: plan.settings.fetch.accept,
    message:
        "Checking that these licences are accepted: {params.needed}"
    shell:
        "python -m workflow.scripts.fetch.licences --needed {params.needed:q} --accept {params.accept:q}"
        " --out {output:q} > {log:q} 2>&1"


rule write_plan:
    output:
        PLAN,
    log:
        f"{plan.downloads.folder}/logs/write_plan.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        content=lambda wildcards: as_json(
            {
                "hub": plan.settings.fetch.hub,
                "offline": plan.settings.fetch.offline,
                "files": {
                    name: source.model_dump(exclude_none=True)
                    for name, source in plan.downloads.files.items()
                },
                "models": {
                    name: model.model_dump(exclude_none=True)
                    for name, model in plan.downloads.models.items()
                },
            }
        ),
    message:
        "Writing down what is fetched, and from where"
    shell:
        "python -m workflow.scripts.write_json --out {output:q} {params.content:q} > {log:q} 2>&1"


# What a thing is, as a file: Snakemake looks at no parameter of what waits, even `ancient`, for something that is made anew.
rule write_identity:
    output:
        f"{plan.downloads.folder}/identity/{{item}}.json",
    log:
        f"{plan.downloads.folder}/logs/write_identity/{{item}}.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        content=lambda wildcards: as_json(
            (plan.downloads.files | plan.downloads.models)[wildcards.item].model_dump(
                exclude_none=True, exclude={"urls", "licence"}
            )
        ),
    message:
        "Writing down what {wildcards.item} is"
    shell:
        "python -m workflow.scripts.write_json --out {output:q} {params.content:q} > {log:q} 2>&1"


rule fetch_file:
    input:
        licences=ancient(LICENCES),
        plan=ancient(PLAN),
        identity=f"{plan.downloads.folder}/identity/{{file}}.json",
    output:
        f"{plan.downloads.folder}/{{file}}",
    log:
        f"{plan.downloads.folder}/logs/fetch_file/{{file}}.log",
    wildcard_constraints:
        file="|".join(map(re.escape, plan.downloads.files)) or "none",
    priority: 30
    conda:
        "../envs/harness.yaml"
    message:
        "Fetching {wildcards.file}"
    shell:
        "python -m workflow.scripts.fetch.file --plan {input.plan:q} --name {wildcards.file:q} --out {output:q} > {log:q} 2>&1"


# SHA256SUMS comes last and stands for the whole folder, whose other files outlive a job that fails.
rule fetch_model:
    input:
        licences=ancient(LICENCES),
        plan=ancient(PLAN),
        identity=f"{plan.downloads.folder}/identity/{{model}}.json",
    output:
        f"{plan.downloads.folder}/{{model}}/SHA256SUMS",
    log:
        f"{plan.downloads.folder}/logs/fetch_model/{{model}}.log",
    wildcard_constraints:
        model="|".join(map(re.escape, plan.downloads.models)) or "none",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        out=f"{plan.downloads.folder}/{{model}}",
    message:
        "Fetching the model {wildcards.model}"
    shell:
        "python -m workflow.scripts.fetch.model --plan {input.plan:q} --name {wildcards.model:q} --out {params.out:q}"
        " > {log:q} 2>&1"


rule unpack_annotations:
    input:
        f"{plan.downloads.folder}/coco/{coco.ARCHIVE}",
    output:
        [f"{plan.downloads.folder}/coco/{name}" for name in coco.ANNOTATIONS],
    log:
        f"{plan.downloads.folder}/logs/unpack_annotations.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards: f"{plan.downloads.folder}/coco",
    message:
        "Unpacking COCO's annotations"
    shell:
        "python -m workflow.scripts.fetch.annotations --archive {input:q} --out {params.out:q} > {log:q} 2>&1"


rule fetch:
    input:
        lambda wildcards: [f"{plan.downloads.folder}/{file}" for file in plan.downloads.files],
        lambda wildcards: [
            f"{plan.downloads.folder}/{model}/SHA256SUMS" for model in plan.downloads.models
        ],
