# What is made of what, as the rules themselves state it: provenance.json follows it.
from types import SimpleNamespace


def collected(path):
    # Slices of one thing count as the folder they lie in.
    return re.sub(r"[/][0-9]{4}\.\w+$", "", unstated(str(path)).removeprefix(f"{R}/"))


def lineage_of(name, **wildcards):
    # Of each file what makes it, and of which files; paths in the run's folder begin there.
    stated = getattr(rules, name)
    # What a function answers are paths; what else is stated are patterns, in which Snakemake fills in the wildcards.
    taken = [
        item(SimpleNamespace(**wildcards)) if callable(item) else item.format(**wildcards)
        for item in stated.input
    ]
    taken = [
        part for item in taken for part in (item.values() if isinstance(item, dict) else [item])
    ]
    paths = [path for item in taken for path in ([item] if isinstance(item, str) else item)]
    known = {collected(path) for path in paths} - {"checks/passed"}
    return {
        collected(path.format(**wildcards)): {"rule": name, "inputs": sorted(known)}
        for path in stated.output
    }


def lineage():
    splits = [*PHOTOS]
    shown = [(row, "test") for row in [*ORDERED, *REPEATS]]
    heldout = [(row, "heldout") for row in ["real", ALIGNMENT["reference"], *CANDIDATES]]
    sampled = [(row, split) for row, split in [*shown, *heldout] if row != "real"]
    reference = [("real", split) for split in splits if ("real", split) not in [*shown, *heldout]]
    found = lineage_of("prepare_layouts")
    for split in splits:
        found |= lineage_of("slice_layouts", split=split, shard="0000")
        found |= lineage_of("tabulate_regions", split=split, shard="0000")
        found |= lineage_of("sample_real", method="real", split=split, shard="0000")
    for split in ("train", "heldout"):
        found |= lineage_of("cache_latents", split=split, part="0000")
    for row, split in sampled:
        found |= lineage_of("write_method", method=row)
        found |= lineage_of("sample", method=row, split=split, shard="0000")
    for row, split in [*shown, *heldout, *reference]:
        found |= lineage_of("extract_features", method=row, split=split, shard="0000")
        found |= lineage_of("summarize", method=row, split=split)
        found |= lineage_of("measure", method=row, split=split)
    for row in ORDERED:
        found |= lineage_of("measure_by_size", method=row)
    for row in [row for row in RIVALS if partners(row)]:
        found |= lineage_of("swap_images", method=row)
    for table in [*config["tables"], *OF_METRICS, "cost", "seeds"]:
        found |= lineage_of("tabulate", table=table)
    for table in ["significance", "best"]:
        found |= lineage_of("compare_rows", table=table)
    for figure in FIGURES:
        found |= lineage_of("draw", figure=figure)
    once = ["train_alignment", "calibrate_eta", "choose_eta"]
    once += ["calibrate_training_eta", "train_denoiser"] if NOISE else []
    for name in once:
        found |= lineage_of(name)
    return found
