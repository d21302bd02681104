# The page that people read: the tables, the figures, and every layout's images side by side.


localrules:
    write_page,


# The index comes last and stands for the folder of strips of its name.
rule cut_strips:
    input:
        layouts=plan.path.layout_shard("test"),
        images=[plan.path.samples(row, "test") for row in plan.pictured],
    output:
        plan.path.strips(),
    log:
        plan.path.log("cut_strips/{shard}"),
    benchmark:
        plan.path.benchmark("cut_strips/{shard}")
    priority: 4
    conda:
        "../envs/harness.yaml"
    resources:
        **plan.needs("cut_strips"),
    params:
        samples=lambda wildcards: f"{plan.path.folder}/samples",
        methods=plan.pictured,
    message:
        "Cutting the report's images of shard {wildcards.shard}"
    shell:
        "python -m evaluation.contact_sheets --layouts {input.layouts} --samples {params.samples}"
        " --shard {wildcards.shard} --methods {params.methods} --out {output} > {log} 2>&1"


rule write_page:
    input:
        tables=[plan.path.table(name, "json") for name in plan.table_names],
        figures=plan.figures,
        layouts=plan.path.layouts("test"),
        scores=[plan.path.scores(row, "test") for row in plan.pictured],
        metrics=plan.path.metrics(plan.rows[0], "test"),
        strips=[plan.path.strips(shard) for shard in plan.shards("test")],
    output:
        report(
            plan.path.report,
            caption="../report/page.rst",
            category="Images",
            labels={"page": "every layout, every row"},
        ),
    log:
        plan.path.log("write_page"),
    benchmark:
        plan.path.benchmark("write_page")
    conda:
        "../envs/harness.yaml"
    resources:
        mem_mb=plan.settings.resources.mem_mb,
    params:
        run=plan.settings.run,
        caveat=lambda wildcards: plan.settings.caveat,
        scores=lambda wildcards: f"{plan.path.folder}/scores",
        methods=plan.pictured,
        bands=plan.bands,
        compare=plan.opened_with,
        elsewhere=lambda wildcards: products.elsewhere(plan),
    message:
        "Writing report.html"
    shell:
        "python -m evaluation.report --run {params.run:q} --caveat={params.caveat:q} --tables {input.tables}"
        " --figures {input.figures} --layouts {input.layouts} --scores {params.scores} --metrics {input.metrics}"
        " --methods {params.methods} {params.bands} {params.elsewhere:q}"
        " --compare {params.compare} --strips {input.strips} --out {output} > {log} 2>&1"
