# The figures, each as PNG and SVG.


localrules:
    draw,


rule draw:
    input:
        unpack(lambda wildcards: products.figure_inputs(plan, wildcards.figure)),
    output:
        png=report(
            plan.path.figure("{figure}"),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        svg=plan.path.figure("{figure}", "svg"),
    log:
        plan.path.log("draw/{figure}"),
    wildcard_constraints:
        figure="|".join(plan.figure_names),
    conda:
        "../envs/harness.yaml"
    params:
        kind=lambda wildcards: products.figure_kind(plan, wildcards.figure),
        options=lambda wildcards: products.figure_options(plan, wildcards.figure),
        out=lambda wildcards, output: output.png.removesuffix(".png"),
    message:
        "Drawing the figure {wildcards.figure}"
    shell:
        "python -m evaluation.figures {params.kind} {params.options:q} --out {params.out} > {log} 2>&1"
