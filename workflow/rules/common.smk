# The plan of the run, from which rules take every path and value.
import sys

sys.path.insert(0, str(workflow.basedir))
from evaluation.datasets import coco
from workflow import preflight
from workflow.paths import place

plan = preflight.begin(workflow, config)


wildcard_constraints:
    method="|".join(["real", *plan.settings.methods, *plan.candidates, *plan.repeats]),
    split="|".join(plan.splits),
    shard="[0-9]{4}",
    table="1|2",


# Names of rule files that do not take theirs from `plan` yet.
R = plan.path.folder
ORDERED, RIVALS, AGAINST, REPEATS = (
    plan.rows,
    sorted(plan.methods),
    plan.compared_with,
    plan.repeats,
)
ROWS = sorted(plan.rows)
ALIGNMENT = {
    "method": plan.settings.alignment.method,
    "reference": plan.settings.alignment.reference,
}
REFERENCE = {split: plan.reference_of(split) for split in plan.splits}
SHOWN = plan.tables + plan.figures
runnable, shards, sampled_shards, needs = (
    plan.runnable,
    plan.shards,
    plan.sampled_shards,
    plan.needs,
)
feature_shards, partners, reference_set = plan.features, plan.partners, plan.reference_set


def protocol():
    import shlex

    return shlex.join(plan.protocol)


def swaps():
    return [plan.path.swaps(row) for row in RIVALS if plan.partners(row)]
