# `snakemake study`: readings of one row, against it and others (docs/study.md). Nothing that the run itself needs depends on them.


localrules:
    carry_eta,
    draw_study,
    study,


# Of a module that is one more training of another, the multiple of eta that was chosen for that one.
use rule calibrate_eta as carry_eta with:
    input:
        alignment=lambda wildcards: plan.module(wildcards.variant),
        latents=lambda wildcards: plan.latents("heldout", wildcards.variant),
        chosen=lambda wildcards: plan.chosen_first(wildcards.variant),
    output:
        eta=plan.path.train().calibration,
    log:
        plan.path.log("carry_eta{variant}"),
    wildcard_constraints:
        variant="|".join(v for v in plan.variants if v not in plan.choosing) or "none",
    params:
        key=lambda wildcards: plan.variants[wildcards.variant].calibration_key,
        method=lambda wildcards: plan.variants[wildcards.variant].row,
        step=plan.settings.alignment.calibrate.relative_step,
        latents=plan.settings.alignment.calibrate.count,
        # The command writes no candidates but takes over what was chosen.
        multiples=lambda wildcards, input: ["--chosen", *input.chosen],
        config=plan.sections,
    message:
        "Calibrating eta of another training"


use rule swap_images as swap_readings with:
    input:
        summaries=lambda wildcards: [
            plan.path.summary(row, "test")
            for row in [wildcards.method, *plan.compared[wildcards.method]]
        ],
        across=lambda wildcards: [
            plan.path.across(row, "test")
            for row in [wildcards.method, *plan.compared[wildcards.method]]
        ],
        real=plan.real_summary("test"),
    output:
        plan.path.study_swaps(),
    log:
        plan.path.log("swap_readings/{method}"),
    benchmark:
        plan.path.benchmark("swap_readings/{method}")
    wildcard_constraints:
        method="|".join(plan.readings) or "none",
    params:
        rows=lambda wildcards: products.swapped(
            plan, [wildcards.method, *plan.compared[wildcards.method]]
        ),
        reference_set=plan.reference_set("test"),
        metrics=plan.metrics_key,
        config=plan.untracked(plan.path.config),
    message:
        "Swapping images between {wildcards.method} and what the study compares it with"


rule tabulate_study:
    input:
        unpack(lambda wildcards: products.study_inputs(plan)),
    output:
        json=plan.path.table(products.STUDY, "json"),
        csv=report(
            plan.path.table(products.STUDY),
            caption="../report/paired.rst",
            category="Tables",
            labels={"table": products.STUDY},
        ),
        markdown=plan.path.table(products.STUDY, "md"),
        latex=plan.path.table(products.STUDY, "tex"),
    log:
        plan.path.log("tabulate_study"),
    conda:
        "../envs/harness.yaml"
    resources:
        **plan.needs("tabulate_study"),
    params:
        options=lambda wildcards: products.study_options(plan),
        out=lambda wildcards, output: output.json.removesuffix(".json"),
    message:
        "Comparing the readings with {plan.settings.study.base}"
    shell:
        "python -m evaluation.tables study {params.options:q} --out {params.out} > {log} 2>&1"


rule draw_study:
    input:
        table=rules.tabulate_study.output.json,
        metrics=lambda wildcards: products.study_inputs(plan)["metrics"][:1],
    output:
        png=report(
            plan.path.figure(products.STUDY),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": products.STUDY},
        ),
        svg=plan.path.figure(products.STUDY, "svg"),
    log:
        plan.path.log("draw/study"),
    conda:
        "../envs/harness.yaml"
    params:
        out=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Drawing the figure study"
    shell:
        "python -m evaluation.figures study --table {input.table} --metrics {input.metrics} --out {params.out} > {log} 2>&1"


rule study:
    input:
        rules.draw_study.output,
        table=lambda wildcards: preflight.study_of(plan),
    log:
        plan.path.log("study"),
    conda:
        "../envs/harness.yaml"
    message:
        "The study"
    shell:
        "cat {input.table} 2> {log}"
