# The plan of the run, from which rules take every path and value.
import sys

sys.path.insert(0, str(workflow.basedir))
from workflow import preflight, products
from workflow.inputs import place, linked
from workflow.plan import called, run_of

plan = preflight.begin(workflow, config)


wildcard_constraints:
    method="|".join(
        [
            "real",
            *plan.settings.methods,
            *plan.candidates,
            *plan.repeats,
            *plan.readings,
            *plan.retrainings,
        ]
    ),
    # Of a path below train/, that of the configuration's own alignment being empty.
    variant=f"(?:{'|'.join(plan.variants)})",
    split="|".join(plan.splits),
    shard="[0-9]{4}",
