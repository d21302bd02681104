# From COCO and weights to Table 1 and Table 2. Run from the repository root: snakemake --cores all
from snakemake.utils import min_version

min_version("9.0")


configfile: "workflow/config/miniature.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        SHOWN,
        f"{R}/layouts/report.json",
        f"{R}/provenance.json",
        f"{R}/report.html",
        lambda wildcards: expand(f"{R}/architectures/{{name}}.json", name=COUNTED),


include: "workflow/rules/fetch.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/denoiser.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/swap.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/estimate.smk"
include: "workflow/rules/explore.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/lineage.smk"
include: "workflow/rules/provenance.smk"
include: "workflow/rules/regress.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/random_weights.smk"


onstart:
    if lost := lost_on_the_way():
        stop(*lost)
    write_json(Path(R, "config.json"), GIVEN)
    if any(job.rule.name in FETCHING for job in workflow.dag.needrun_jobs()):
        if refused := SOURCES.refused():
            stop(*refused)
        sizes, found = ask(SOURCES)
        needed = [Need(name, SOURCES.folder, size) for name, size in sizes.items() if size]
        if found := found + lacking([*needed, need_of_run(SECTIONS["estimate"], Path(R))]):
            stop(*found)


onsuccess:
    if checks_are_new():
        print(
            "The checks before the run were made anew, and Snakemake does not see changed parameters behind what it makes anew:"
            " start the same command once more, for whatever else has changed",
            file=sys.stderr,
        )
