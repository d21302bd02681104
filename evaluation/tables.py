"""One table of the paper from metrics files: CSV, Markdown and LaTeX, with the published values beside ours.

    python -m evaluation.tables --table 1 --metrics metrics/real/test.json metrics/sd14/test.json ... \
        --rows real sd14 gligen_ldm hcma --published workflow/config/published.csv --specs methods/sd14.json ... \
        --data config/data.json --cost tables/cost.csv --significance tables/significance.csv --mark-against hcma \
        --best tables/best.csv --caveat "..." --out results/miniature/tables/table1

writes table1.csv, table1.md and table1.tex. A row without metrics is one that cannot be run: it shows its published values.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.compare import WHAT_IS_TESTED
from evaluation.printing import number, write_csv
from formats.cli import run
from formats.files import InputError, read_json, write_text

METRICS = ("image_fid", "image_clip", "region_fid", "region_clip")
DIGITS = {"fid": 2, "clip": 4}
MARK = "†"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, choices=[1, 2], required=True)
    parser.add_argument("--metrics", type=Path, nargs="+", required=True)
    parser.add_argument("--rows", nargs="+", required=True, help="the table's methods, in order")
    parser.add_argument("--specs", type=Path, nargs="*", default=[], help="methods/{method}.json of the rows")
    parser.add_argument("--cost", type=Path, required=True, help="the cost table's CSV")
    parser.add_argument("--significance", type=Path, required=True, help="the CSV of evaluation.compare")
    parser.add_argument(
        "--mark-against", required=True, help="values that are not distinguishable from this row's get a mark"
    )
    parser.add_argument("--best", type=Path, required=True, help="the CSV of evaluation.best")
    parser.add_argument("--data", type=Path, required=True, help="the config's `data` section as JSON")
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--caveat", default="", help="a sentence that every form of the table carries")
    parser.add_argument("--out", type=Path, required=True, help="path without suffix")
    arguments = parser.parse_args()
    metrics = [read_json(path) for path in arguments.metrics]
    table = build(metrics, read_published(arguments.published, arguments.table), arguments.rows)
    table, marks = marked(table, _read_pairs(arguments.significance, []), arguments.mark_against)
    table, bold = emboldened(table, _read_pairs(arguments.best, ["table", "opposite"]), arguments.table)
    cost = read_cost(arguments.cost)
    notes = (
        [arguments.caveat] * bool(arguments.caveat)
        + protocol(metrics, read_json(arguments.data))
        + made(cost[cost.index.isin(table["method"])])
        + bold
        + marks
        + [f"{WHAT_IS_TESTED} The differences without that bias are in significance.md and best.md."]
        + unmeasured(table)
    )
    notes += tokens(cost, table) + cut_prompts(cost, table) + settings([read_json(path) for path in arguments.specs])
    if not arguments.caveat:
        notes.append("In brackets: the paper's value.")
    write(table, notes, arguments.table, arguments.out, beside_published=not arguments.caveat)


def read_published(path: Path, number: int) -> pd.DataFrame:
    """The published rows of one table, indexed by method."""
    try:
        rows = pd.read_csv(path)
        return rows[rows["table"] == number].set_index("method")[["label", *METRICS]]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a table of published values ({error})") from None


def read_cost(path: Path) -> pd.DataFrame:
    """The cost table, indexed by method."""
    try:
        return pd.read_csv(path).set_index("method")
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a cost table ({error})") from None


def _read_pairs(path: Path, more: list[str]) -> pd.DataFrame:
    """Paired comparisons, with these columns more."""
    try:
        return pd.read_csv(path)[[*more, "against", "method", "metric", "different"]]
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not a table of comparisons ({error}); delete it and run again") from None


def marked(table: pd.DataFrame, significance: pd.DataFrame, against: str) -> tuple[pd.DataFrame, list[str]]:
    """The table with a column `{metric}_alike` each, and the note that explains the mark, where anything bears it."""
    found = significance[(significance["against"] == against) & (significance["different"] == "no")]
    alike = set(zip(found["method"], found["metric"], strict=True))
    columns = {f"{metric}_alike": [(name, metric) in alike for name in table["method"]] for metric in METRICS}
    note = (
        f"{MARK}: not distinguishable from {against} (paired by image, Holm-corrected over all pairs, p >= 0.05); every "
        "difference with its p-value is in significance.md."
    )
    return table.assign(**columns), [note] * any(map(any, columns.values()))


def emboldened(table: pd.DataFrame, best: pd.DataFrame, number: int) -> tuple[pd.DataFrame, list[str]]:
    """The table with a column `{metric}_best` each, and the note that explains bold print.

    A best value is bold only where it can be told from the runner-up's.
    """
    found = best[(best["table"] == number) & (best["different"] == "yes")]
    bold = set(zip(found["method"], found["metric"], strict=True))
    columns = {f"{metric}_best": [(name, metric) in bold for name in table["method"]] for metric in METRICS}
    note = (
        "Bold: the best of its column without `real`, where it can be told from the runner-up (paired by image, "
        "Holm-corrected over all pairs of the table's rows, p < 0.05); a column without bold has no certain best. The "
        "p-values are in best.md."
    )
    if other := found.loc[found["opposite"] == "yes", "metric"].tolist():
        note += f" Without the bias of finite samples the runner-up is the better one by {', '.join(other)}."
    return table.assign(**columns), [note]


def build(metrics: list[dict[str, Any]], published: pd.DataFrame, rows: Sequence[str]) -> pd.DataFrame:
    """One row a method: every metric with its standard error, its floor where it has one, and its published value.

    A method of `rows` without metrics has its published values only, and needs some.

    Raises InputError when rows were not measured on the same number of images by the same networks.
    """
    first = metrics[0]
    for row in metrics:
        for key in ("n_images", "n_regions", "protocol", "split", "reference"):
            if row[key] != first[key]:
                raise InputError(f"{row['method']}: {key} is {row[key]}, but {first['method']} has {first[key]}")
    measured = {row["method"]: row for row in metrics}
    for name in rows:
        if name not in measured and name not in published.index:
            raise InputError(f"{name}: neither measured nor published")
    nothing = {"metrics": dict.fromkeys(METRICS), "n_images": 0, "n_regions": 0}
    return pd.DataFrame([_row(measured.get(name, nothing | {"method": name}), published) for name in rows])


def _row(row: dict[str, Any], published: pd.DataFrame) -> dict[str, Any]:
    cells: dict[str, Any] = {"method": row["method"]}
    for metric in METRICS:
        found = row["metrics"][metric] or {}
        cells |= {metric: found.get("value"), f"{metric}_se": found.get("se")}
    cells |= {"n_images": row["n_images"], "n_regions": row["n_regions"]}
    known = published.loc[row["method"]].to_dict() if row["method"] in published.index else {}
    cells |= {f"published_{metric}": known.get(metric) for metric in METRICS}
    cells |= {f"{m}_floor": (row["metrics"][m] or {}).get("floor") for m in METRICS if m.endswith("fid")}
    return cells | {"label": known.get("label", row["method"])}


def protocol(metrics: list[dict[str, Any]], data: dict[str, Any]) -> list[str]:
    """The sentences a reader needs to know what the columns are, and to make them again."""
    made, first = metrics[0]["protocol"], metrics[0]
    floors = [f"{m} {first['metrics'][m]['floor']:.2f}" for m in METRICS if m.endswith("fid") and first["metrics"][m]]
    return [
        f"FD: Frechet distance to `real` between features of {_network(made['frechet'])}; whole images "
        f"{_resolution(made['resolution'])}. Features by torch {made['torch']} in batches of {made['batch']}.",
        f'CLIP: raw cosine by {_network(made["clip"])}; a region\'s text is "{made["label_template"]}".',
        *cut_texts(first),
        *_layouts(data),
        _regions(made["regions"]),
        f"`real`: {REFERENCES[made['reference']]} (statistics sha256 {first['reference'][:12]}).",
        f"{first['n_images']} images and {first['n_regions']} regions a row; ± one standard error "
        f"(delete-a-group jackknife over images, at most {made['groups']} groups).",
        f"Two samples of this size from one distribution are expected to differ by: {', '.join(floors)}."
        if floors
        else "No distance could be measured.",
        *_versions(metrics),
    ]


def cut_texts(row: dict[str, Any]) -> list[str]:
    """How many captions and regions' texts the CLIP score reads only the beginning of; nothing where it reads all of all."""
    limit = row["protocol"]["clip"].get("context")
    kinds = {"image": "captions", "region": "regions' texts"}
    return [
        f"{cut} of {row[f'n_{level}s']} {kind} are longer than {limit} tokens and were cut for the CLIP score."
        for level, kind in kinds.items()
        if (cut := row.get(f"n_{level}s_text_cut"))
    ]


REFERENCES = {
    "same_ids": "the photos of the same layouts",
    "full_val": "all photos of the layouts `val`, of which the rows' are a part; its own row is measured against them too",
}


def _layouts(data: dict[str, Any]) -> list[str]:
    """Which images, captions and boxes a layout has."""
    boxes, test = data["boxes"], data["test"]
    caption = "the caption of the lowest annotation id" if data["caption"] == "first" else "a caption by a seeded hash"
    frame = "its centre square" if data["resize"] == "center_crop" else "all of it, squashed"
    kept = "only those with boxes" if test["require_boxes"] else "those without boxes as well"
    return [
        f"Layouts: {test['count']} images of val2014 in the order of a hash with seed {test['seed']}, {kept}; {caption}; of a "
        f"photo {frame} at {data['size']} px; boxes of at least {100 * boxes['min_area_frac']:g} % of the canvas, "
        f"{'not crowds, ' if boxes['drop_crowd'] else ''}the {boxes['max']} largest."
    ]


def _regions(rule: dict[str, Any]) -> str:
    """How regions are cut."""
    most = f", the {rule['max_per_image']} largest of an image" if rule["max_per_image"] else ""
    shape = "squashed to the network's input"
    if rule["pad"] == "mean":
        shape = "padded to a square with its mean colour and resized to the network's input"
    elif rule["resize"] == "short_side_center_crop":
        shape = "of which the centre square is resized to the network's input"
    return (
        f"Regions: boxes of at least {rule['min_side']} px a side{most}, also of rows that do not see boxes. A region is the "
        f"box's pixels at the image's own resolution, rounded outwards, {shape}."
    )


def _resolution(resolution: int | None) -> str:
    return "at their own resolution" if resolution is None else f"at {resolution} px, by bicubic interpolation"


def made(cost: pd.DataFrame) -> list[str]:
    """At which commit and on which device the rows were sampled; rows of another commit or device are named."""
    if cost.empty:
        return []
    rows: dict[str, list[str]] = {}
    for name, row in cost.fillna("unknown").iterrows():
        rows.setdefault(f"commit {row['commit']} on {row['device']}", []).append(str(name))
    parts = list(rows) if len(rows) == 1 else [f"{part}: {', '.join(names)}" for part, names in rows.items()]
    return [f"Sampled at {'; '.join(parts)}."]


def _network(about: dict[str, str]) -> str:
    return f"{about['name']} ({about['resize']}; sha256 {about['sha256'][:12]})"


def _versions(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """What software sampled the rows: one sentence for all rows that share it."""
    rows: dict[str, list[str]] = {}
    for row in metrics:
        if versions := row["source"].get("versions"):
            made_with = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
            rows.setdefault(made_with, []).append(row["method"])
    if len(rows) == 1:
        return [f"Made with {made_with}." for made_with in rows]
    return [f"Made with {made_with}: {', '.join(names)}." for made_with, names in rows.items()]


def unmeasured(table: pd.DataFrame) -> list[str]:
    """Which rows show published values only."""
    names = table.loc[table["n_images"] == 0, "label"].tolist()
    return [f"Not run, for want of weights; the published values alone: {', '.join(names)}."] if names else []


def tokens(cost: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """How many boxes and images the rows that are guided by the caption's words leave alone."""
    labels = table.set_index("method")["label"]
    guided = cost[(cost["boxes"] > 0) & cost.index.isin(labels.index)]
    sentences = []
    for key, rows in guided.groupby(["boxes", "boxes_without_token", "images_without_token", "images"]):
        boxes, unnamed, plain, images = key
        sentences.append(
            f"Guided by the words of the caption: {', '.join(labels[rows.index])}. {unnamed} of {boxes} boxes have no word "
            f"there and are left out; {plain} of {images} images have none at all and are plain Stable Diffusion's."
        )
    return sentences


def cut_prompts(cost: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """How many captions the rows' own text encoders saw only the beginning of; nothing where they saw all of all."""
    if "truncated_captions" not in cost:
        return []
    labels = table.set_index("method")["label"]
    cut = cost[(cost["truncated_captions"] > 0) & cost.index.isin(labels.index)]
    return [
        f"{count} of {images} captions are longer than the text encoder takes and were cut for sampling: "
        f"{', '.join(labels[rows.index])}."
        for (count, images), rows in cut.groupby(["truncated_captions", "images"])
    ]


def settings(specs: Sequence[dict[str, Any]]) -> list[str]:
    """Each row's settings, those that differ from its module's defaults, and where the defaults are from."""
    return [
        f"{spec['method']}: {spec['base']}{_hashes(spec)}, {_listed(spec['sampling'])}"
        + (f"; {_listed(spec['params'])}" if spec["params"] else "")
        + (f"; targets by the text encoder of {spec['text']} ({spec['text_feature']})" if spec.get("text") else "")
        + (f"; otherwise {spec['source']}" if spec.get("source") else "")
        + "."
        for spec in specs
    ]


def _hashes(spec: dict[str, Any]) -> str:
    """The weights of a row: of its model, and of its alignment module where it has one."""
    known = {"sha256": spec.get("weights_sha256"), "alignment": spec.get("alignment_sha256")}
    hashes = [f"{name} {digest[:12]}" for name, digest in known.items() if digest]
    return f" ({', '.join(hashes)})" if hashes else ""


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value not in ("", None))


def write(table: pd.DataFrame, notes: list[str], number: int, out: Path, beside_published: bool) -> None:
    """Write the three forms, each whole or not at all; the caveat and protocol stand in all but the CSV's cells.

    Beside what a run with a caveat measured the paper's value would invite a comparison that means nothing: without
    `beside_published` the CSV alone has it, but for rows that were not measured.
    """
    write_csv(out.with_suffix(".csv"), table.drop(columns="label"))
    if not beside_published:
        published = [f"published_{metric}" for metric in METRICS]
        table = table.assign(**table[published].mask(table["n_images"] > 0))
    write_text(out.with_suffix(".md"), _markdown(table, notes, number))
    write_text(out.with_suffix(".tex"), _latex(table, notes, number))


def _ours(row: dict[Any, Any], metric: str) -> str:
    digits = DIGITS[metric.split("_")[1]]
    return number(row[metric], digits, row[f"{metric}_se"]) + (MARK if row.get(f"{metric}_alike") else "")


def _published(row: dict[Any, Any], metric: str) -> str:
    value = row[f"published_{metric}"]
    return "" if pd.isna(value) else f"{value:.{DIGITS[metric.split('_')[1]]}f}"


HEADS = ["Method", "Image FD", "Image CLIP", "Region FD", "Region CLIP"]


def _markdown(table: pd.DataFrame, notes: list[str], number: int) -> str:
    lines = [HEADS, ["---"] + ["---:"] * 4]
    for row in table.to_dict("records"):
        cells = []
        for metric in METRICS:
            ours, theirs = _ours(row, metric), _published(row, metric)
            cells.append((f"**{ours}**" if row.get(f"{metric}_best") else ours) + (f" [{theirs}]" if theirs else ""))
        lines.append([str(row["label"]), *cells])
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**Table {number}**\n\n{body}\n\n" + "\n".join(f"- {note}" for note in notes) + "\n"


def _latex(table: pd.DataFrame, notes: list[str], number: int) -> str:
    """A table for booktabs: ours, and beside it the published value where any is shown, metric by metric."""
    pairs = bool(table[[f"published_{metric}" for metric in METRICS]].notna().any(axis=None))
    heads = " & ".join(["", *(rf"\multicolumn{{2}}{{c}}{{{head}}}" for head in HEADS[1:])]) + r" \\"
    rules = " ".join(rf"\cmidrule(lr){{{2 * place}-{2 * place + 1}}}" for place in range(1, 5))
    rows = []
    for row in table.to_dict("records"):
        cells = [_escaped(str(row["label"]))]
        for metric in METRICS:
            ours = _escaped(_ours(row, metric))
            cells.append(rf"\textbf{{{ours}}}" if row.get(f"{metric}_best") else ours)
            cells += [_published(row, metric) or "-"] * pairs
        rows.append(" & ".join(cells) + r" \\")
    head = [heads, rules, "Method" + " & ours & paper" * 4 + r" \\"] if pairs else [" & ".join(HEADS) + r" \\"]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            *(f"% {note}" for note in notes),
            r"\begin{table}\centering\small",
            rf"\caption{{Table {number}. {_escaped(' '.join(notes))}}}",
            r"\begin{tabular}{l*{4}{rr}}" if pairs else r"\begin{tabular}{l*{4}{r}}",
            r"\toprule",
            *head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


LATEX = str.maketrans(
    {plain: f"\\{plain}" for plain in "_&%#${}"}
    | {
        "±": r"\textpm{}",
        MARK: r"\textdagger{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}"}
)


def _escaped(text: str) -> str:
    return text.translate(LATEX)


if __name__ == "__main__":
    run(main)
