# What is published, fetched into one folder that all runs share: snakemake fetch. That everything can be had, under licences that are
# accepted, and that there is room for it, is checked before the first job (preflight).
import re

DOWNLOADS = plan.downloads.folder


# Where jobs go to a cluster, its nodes often have no way out.
localrules:
    fetch_file,
    fetch_model,
    fetch,


rule fetch_file:
    output:
        f"{DOWNLOADS}/{{file}}",
    log:
        f"{DOWNLOADS}/logs/fetch_file/{{file}}.log",
    wildcard_constraints:
        file="|".join(map(re.escape, plan.downloads.files)) or "none",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        key=lambda wildcards: plan.download_key(wildcards.file),
        config=plan.untracked(plan.path.config),
    message:
        "Fetching {wildcards.file}"
    shell:
        "python -m workflow.fetch file {wildcards.file:q} --config {params.config:q} > {log:q} 2>&1"


# SHA256SUMS comes last and stands for the whole folder, whose other files outlive a job that fails.
rule fetch_model:
    output:
        f"{DOWNLOADS}/{{model}}/SHA256SUMS",
    log:
        f"{DOWNLOADS}/logs/fetch_model/{{model}}.log",
    wildcard_constraints:
        model="|".join(map(re.escape, plan.downloads.models)) or "none",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        key=lambda wildcards: plan.download_key(wildcards.model),
        config=plan.untracked(plan.path.config),
    message:
        "Fetching the model {wildcards.model}"
    shell:
        "python -m workflow.fetch model {wildcards.model:q} --config {params.config:q} > {log:q} 2>&1"


if hasattr(plan.dataset, "ARCHIVE"):

    rule unpack_annotations:
        input:
            f"{DOWNLOADS}/{plan.settings.data.dataset}/{plan.dataset.ARCHIVE}",
        output:
            [
                f"{DOWNLOADS}/{plan.settings.data.dataset}/{name}"
                for name in plan.dataset.ANNOTATIONS
            ],
        log:
            f"{DOWNLOADS}/logs/unpack_annotations.log",
        priority: 30
        localrule: True
        conda:
            "../envs/harness.yaml"
        params:
            out=lambda wildcards: f"{DOWNLOADS}/{plan.settings.data.dataset}",
            dataset=plan.untracked(plan.settings.data.dataset),
        message:
            "Unpacking annotations"
        shell:
            "python -m workflow.fetch unpack {input:q} --out {params.out:q} --dataset {params.dataset:q} > {log:q} 2>&1"


rule fetch:
    input:
        [f"{DOWNLOADS}/{file}" for file in plan.downloads.files],
        [f"{DOWNLOADS}/{model}/SHA256SUMS" for model in plan.downloads.models],
