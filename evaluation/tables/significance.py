"""Tables of paired differences: every row against some of them, and the best row of a table against its runner-up."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.metrics import Metric, metric_of
from evaluation.metrics.permutation import FLIPS
from evaluation.significance import LEVEL_OF_TEST, MeasuredRow, Swaps, compare, leaders
from evaluation.tables.table import P_VALUE, Cell, Column, Row, Table, View, decimals

OPPOSITE = "‡"
WHAT_IS_TESTED = (
    "Of a distance the null hypothesis is that the images of the two rows are exchangeable, that is, of one distribution. It "
    "is tested through the distance of a finite sample, which is biased by more where a distribution is wider, so that two "
    "rows of equal true distance but different distributions can be told apart."
)
DEBIASED = (
    "Debiased: the difference of the distances without that bias, by the jackknife: the estimate of the difference itself, "
    f"with the same standard error; {OPPOSITE}: of the other sign than the tested difference; -: no distance, or too few "
    "images to remove the bias."
)
DIFFERENCE = Column("difference", "Difference", decimals(4, "+"))
WITHOUT_BIAS = Column("debiased", "Debiased", decimals(4, "+"))
P_HOLM = Column("p_holm", "p (Holm)", P_VALUE)
VERDICT = Column("verdict")
# For programs: what the mark and the verdict say.
CODED = [Column(key, shown=False) for key in ("opposite", "different")]
VERDICTS = {"yes": "", "no": "not distinguishable", "untested": "not tested"}


def significance_table(rows: Mapping[str, MeasuredRow], against: Sequence[str], swaps: Swaps) -> Table:
    """Every row minus each of `against`, a view each."""
    lines = compare(dict(rows), against, swaps).to_dict("records")
    columns = [Column("method", "Method"), Column("metric", "Metric"), DIFFERENCE, WITHOUT_BIAS]
    columns += [Column("p", "p", P_VALUE), P_HOLM, VERDICT]
    views = [
        View(f"Row minus {other}:", [column.key for column in columns], rows_of)
        for other in against
        if (rows_of := [place for place, line in enumerate(lines) if line["against"] == other])
    ]
    tests = (
        f"Paired by image: {FLIPS:,} random sign flips of the images' differences for CLIP scores; as many random swaps of "
        "groups of images between the two rows for distances; delete-a-group jackknife and Student's t for all others. ± one "
        f"standard error, by the paired jackknife. Holm's correction over all pairs, metric by metric; level {LEVEL_OF_TEST}."
    )
    return Table(
        "Paired differences",
        [*columns, Column("against", shown=False), *CODED],
        [_names(line) | differences(line) for line in lines],
        [tests, WHAT_IS_TESTED, DEBIASED],
        views,
    )


def best_table(
    tables: Mapping[str, Sequence[str]],
    rows: Mapping[str, MeasuredRow],
    swaps: Swaps,
    metrics: Mapping[str, Sequence[Metric]] | None = None,
) -> Table:
    """Of each table, by name, and metric of its `metrics` (none: the headline's) the best row and the runner-up.

    `real` is no row of them.
    """
    lines = [
        {"table": Cell(table)} | _names(line) | differences(line)
        for table, names in tables.items()
        for line in leaders({name: rows[name] for name in names}, swaps, (metrics or {}).get(table, ()))
    ]
    known = next(iter(rows.values())).known if rows else {}
    used = [metric_of(str(line["metric"].value), known) for line in lines]
    others = ", delete-a-group jackknife and Student's t for all others" * any(not (m.flips or m.swapped) for m in used)
    tests = (
        "Best minus runner-up, paired by image: random sign flips of the images' differences for CLIP scores, random swaps of "
        f"groups of images between the two rows for distances{others}; Holm's correction over all pairs of a table's rows, "
        "metric by metric. In the tables the best value is bold where it can be told from the runner-up's."
    )
    columns = [Column("table", "Table"), Column("metric", "Metric"), Column("method", "Best")]
    columns += [Column("against", "Runner-up"), DIFFERENCE, WITHOUT_BIAS, Column("p", "p", P_VALUE), P_HOLM, VERDICT]
    return Table("Best rows", [*columns, *CODED], lines, [tests, WHAT_IS_TESTED, DEBIASED])


def _names(line: Mapping[Any, Any]) -> Row:
    return {key: Cell(line[key]) for key in ("metric", "method", "against")}


def differences(line: Mapping[Any, Any]) -> Row:
    """The cells of a paired difference: itself, without bias, its p-values and what they say."""
    return {
        "difference": Cell.of(line["difference"], line["se"]),
        "debiased": without_bias(line),
        "p": Cell.of(line["p"]),
        "p_holm": Cell.of(line["p_holm"]),
        "verdict": Cell(VERDICTS[line["different"]]),
        "opposite": Cell(line["opposite"]),
        "different": Cell(line["different"]),
    }


def without_bias(line: Mapping[Any, Any]) -> Cell:
    """The debiased difference of a line, marked where it is of the other sign than the tested one."""
    return Cell.of(line["debiased"], mark=OPPOSITE if line["opposite"] == "yes" else "")
