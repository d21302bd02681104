# What is published, fetched into one folder that all runs share: snakemake fetch. Nothing comes before its licence is accepted.


# Where jobs go to a cluster, its nodes often have no way out.
localrules:
    check_licences,
    fetch_file,
    fetch_model,
    unpack_annotations,
    fetch,


LICENCES = f"{DOWNLOADS}/LICENCES.json"
OFFLINE = "--offline" if FETCH["offline"] else ""


rule check_licences:
    output:
        LICENCES,
    log:
        f"{DOWNLOADS}/logs/check_licences.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        needed=lambda wildcards: as_json(FETCHED.licences(FETCH["licences"])),
        accept=FETCH["accept"],
    message:
        "Checking that these licences are accepted: {params.needed}"
    shell:
        "python -m workflow.scripts.fetch.licences --needed {params.needed:q} --accept {params.accept:q}"
        " --out {output} > {log} 2>&1"


rule fetch_file:
    input:
        ancient(LICENCES),
    output:
        f"{DOWNLOADS}/{{file}}",
    log:
        f"{DOWNLOADS}/logs/fetch_file/{{file}}.log",
    wildcard_constraints:
        file="|".join(map(re.escape, FETCHED.files)) or "none",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        source=lambda wildcards: as_json(FETCHED.files[wildcards.file]),
        offline=OFFLINE,
    message:
        "Fetching {wildcards.file}"
    shell:
        "python -m workflow.scripts.fetch.file --source {params.source:q} {params.offline} --out {output:q} > {log:q} 2>&1"


# SHA256SUMS comes last and stands for the whole folder, whose other files outlive a job that fails.
rule fetch_model:
    input:
        ancient(LICENCES),
    output:
        f"{DOWNLOADS}/{{model}}/SHA256SUMS",
    log:
        f"{DOWNLOADS}/logs/fetch_model/{{model}}.log",
    wildcard_constraints:
        model="|".join(FETCHED.models) or "none",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        source=lambda wildcards: as_json(FETCHED.models[wildcards.model]),
        hub=FETCH["hub"],
        offline=OFFLINE,
        out=f"{DOWNLOADS}/{{model}}",
    message:
        "Fetching the model {wildcards.model}"
    shell:
        "python -m workflow.scripts.fetch.model --source {params.source:q} --hub {params.hub:q} {params.offline}"
        " --out {params.out:q} > {log:q} 2>&1"


rule unpack_annotations:
    input:
        f"{DOWNLOADS}/coco/annotations_trainval2014.zip",
    output:
        expand(
            f"{DOWNLOADS}/coco/annotations/{{kind}}_{{split}}2014.json",
            kind=["instances", "captions"],
            split=["train", "val"],
        ),
    log:
        f"{DOWNLOADS}/logs/unpack_annotations.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards: f"{DOWNLOADS}/coco",
    message:
        "Unpacking COCO's annotations"
    shell:
        "python -m workflow.scripts.fetch.annotations --archive {input:q} --out {params.out:q} > {log} 2>&1"


rule fetch:
    input:
        expand(f"{DOWNLOADS}/{{file}}", file=FETCHED.files),
        expand(f"{DOWNLOADS}/{{model}}/SHA256SUMS", model=FETCHED.models),
