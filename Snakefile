# From COCO and weights to Table 1 and Table 2. Run from the repository root: snakemake --cores all
from snakemake.utils import min_version

from workflow.overlays import BASE, scale_file

min_version("9.0")


configfile: BASE
configfile: scale_file(config)


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


from workflow.progress import show_progress

show_progress(workflow)


localrules:
    all,


rule all:
    default_target: True
    input:
        plan.tables,
        plan.figures,
        plan.path.left_out,
        plan.path.provenance,
        plan.path.report,
        [plan.path.architecture(name) for name in plan.counted],


include: "workflow/rules/fetch.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/denoiser.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/estimate.smk"
include: "workflow/rules/page.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/provenance.smk"
include: "workflow/rules/regress.smk"
include: "workflow/rules/bundle.smk"
include: "workflow/rules/study.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/random_weights.smk"


onstart:
    preflight.start(workflow, plan)
