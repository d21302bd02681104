# What is published, fetched into one folder that all runs share: snakemake fetch. Nothing comes before its licence is accepted.


# Where jobs go to a cluster, its nodes often have no way out.
localrules:
    check_licences,
    write_plan,
    write_identity,
    check_sources,
    pass_sources,
    fetch_file,
    fetch_model,
    unpack_annotations,
    fetch,


LICENCES = f"{DOWNLOADS}/LICENCES.json"
PLAN = f"{DOWNLOADS}/plan.json"
CHECKED = f"{DOWNLOADS}/sources-checked.json"
PASSED = f"{DOWNLOADS}/sources-passed"


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
        accept=lambda wildcards: FETCH["accept"],
    message:
        "Checking that these licences are accepted: {params.needed}"
    shell:
        "python -m workflow.scripts.fetch.licences --needed {params.needed:q} --accept {params.accept:q}"
        " --out {output:q} > {log:q} 2>&1"


rule write_plan:
    output:
        PLAN,
    log:
        f"{DOWNLOADS}/logs/write_plan.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        content=lambda wildcards: as_json(
            {
                "hub": FETCH["hub"],
                "offline": FETCH["offline"],
                "files": FETCHED.files,
                "models": FETCHED.models,
            }
        ),
    message:
        "Writing down what is fetched, and from where"
    shell:
        "python -m workflow.scripts.write_json --out {output:q} {params.content:q} > {log:q} 2>&1"


# Before the first large download: is all of it to be had, and is there room for it and for the run?
rule check_sources:
    input:
        licences=ancient(LICENCES),
        passed=ancient(f"{R}/checks/passed"),
        plan=PLAN,
    output:
        CHECKED,
    log:
        f"{DOWNLOADS}/logs/check_sources.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    resources:
        estimate=lambda wildcards: as_json(SECTIONS["estimate"]),
    params:
        folder=lambda wildcards: DOWNLOADS,
        run=lambda wildcards: R,
    message:
        "Asking for everything that is to be fetched"
    shell:
        "python -m workflow.scripts.fetch.check --plan {input.plan:q} --folder {params.folder:q}"
        " --estimate {resources.estimate:q} --run {params.run} --out {output:q} > {log:q} 2>&1"


# Fetching waits for this file, which outlives a check that fails: Snakemake makes anew whatever waits for a file that is gone.
rule pass_sources:
    input:
        CHECKED,
    output:
        PASSED,
    log:
        f"{DOWNLOADS}/logs/pass_sources.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    message:
        "Everything can be fetched"
    shell:
        "touch {output:q} 2> {log:q}"


# What a thing is, as a file: Snakemake looks at no parameter of what waits, even `ancient`, for something that is made anew.
rule write_identity:
    output:
        f"{DOWNLOADS}/identity/{{item}}.json",
    log:
        f"{DOWNLOADS}/logs/write_identity/{{item}}.log",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        content=lambda wildcards: identity((FETCHED.files | FETCHED.models)[wildcards.item]),
    message:
        "Writing down what {wildcards.item} is"
    shell:
        "python -m workflow.scripts.write_json --out {output:q} {params.content:q} > {log:q} 2>&1"


rule fetch_file:
    input:
        passed=ancient(PASSED),
        plan=ancient(PLAN),
        identity=f"{DOWNLOADS}/identity/{{file}}.json",
    output:
        f"{DOWNLOADS}/{{file}}",
    log:
        f"{DOWNLOADS}/logs/fetch_file/{{file}}.log",
    wildcard_constraints:
        file="|".join(map(re.escape, FETCHED.files)) or "none",
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
        passed=ancient(PASSED),
        plan=ancient(PLAN),
        identity=f"{DOWNLOADS}/identity/{{model}}.json",
    output:
        f"{DOWNLOADS}/{{model}}/SHA256SUMS",
    log:
        f"{DOWNLOADS}/logs/fetch_model/{{model}}.log",
    wildcard_constraints:
        model="|".join(map(re.escape, FETCHED.models)) or "none",
    priority: 30
    conda:
        "../envs/harness.yaml"
    params:
        out=f"{DOWNLOADS}/{{model}}",
    message:
        "Fetching the model {wildcards.model}"
    shell:
        "python -m workflow.scripts.fetch.model --plan {input.plan:q} --name {wildcards.model:q} --out {params.out:q}"
        " > {log:q} 2>&1"


rule unpack_annotations:
    input:
        f"{DOWNLOADS}/coco/{find_dataset('coco').ARCHIVE}",
    output:
        expand(f"{DOWNLOADS}/coco/{{name}}", name=find_dataset("coco").ANNOTATIONS),
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
        "python -m workflow.scripts.fetch.annotations --archive {input:q} --out {params.out:q} > {log:q} 2>&1"


rule fetch:
    input:
        lambda wildcards: [f"{DOWNLOADS}/{file}" for file in FETCHED.files],
        lambda wildcards: [f"{DOWNLOADS}/{model}/SHA256SUMS" for model in FETCHED.models],
