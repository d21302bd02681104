"""What no single key of a configuration can say of itself: references between keys, and methods' modules and parameters."""

import csv
import importlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from evaluation import networks
from evaluation.datasets import distributed, find_dataset, photos_of
from evaluation.datasets.naming import Pattern
from evaluation.datasets.source import faults_of, needs_data_set, source_of
from evaluation.networks import LEAST, ROLES, described, faults, measured_by
from formats import shown
from formats.files import InputError
from formats.modules import defined, dotted, fields_of, statements
from formats.params import unknown_key, unknown_name
from workflow.keys import explained
from workflow.overlays import PUBLISHED, ROOT, Fault, Keys
from workflow.study import Reading, expand

if TYPE_CHECKING:
    from evaluation.metrics import Metric
    from evaluation.metrics.own import Own
    from workflow.settings import Method, OwnMetric, SetSource, Settings, Source, TableStanza


def contradictions(settings: "Settings") -> Iterator[Fault]:
    """All faults of a configuration whose every key is right by itself."""
    yield from _row_faults(settings)
    yield from _metric_module_faults(settings)
    yield from _table_faults(settings)
    yield from _comparison_faults(settings)
    yield from _alignment_faults(settings)
    yield from _training_faults(settings)
    yield from _data_faults(settings)
    yield from _evaluation_faults(settings)
    yield from _fetch_faults(settings)
    yield from _study_faults(settings)


def parameter_faults(settings: "Settings") -> list[str]:
    """One line for every row, and every network that measures, whose `params` its module refuses; imports the modules, and with
    them torch.
    """
    from formats.cli import quick_imports
    from formats.params import from_keys

    readings = {f"study, {row}": one.stanza for row, one in expand(settings)[0].items() if one.choices}
    rows = {f"methods.{name}": one for name, one in settings.methods.items() if one.is_sampled} | readings
    stated = {name: (one.module, one.params) for name, one in rows.items()}
    stated |= {
        f"extractors.{name}": (dotted(one.kind, networks.__name__), one.params)
        for name, one in settings.extractors.given()
        if one.params
    }
    with quick_imports():
        kinds = {name: importlib.import_module(module).Params for name, (module, _) in stated.items()}
    found = []
    for name, (_, params) in stated.items():
        try:
            from_keys(kinds[name], params, f"{name}.params")
        except InputError as error:
            found.append(str(error))
    return found


def own_metric_faults(settings: "Settings") -> list[str]:
    """One line for every metric of one's own whose `params` its module refuses, or whose name is taken; imports the modules."""
    from formats.cli import quick_imports

    with quick_imports():
        from evaluation.metrics import own

        loaded, faults = _loaded(settings)
    try:
        own.check_names(loaded)
        known_metrics(settings, loaded)
    except InputError as error:
        faults.append(str(error))
    return faults


def _loaded(settings: "Settings") -> "tuple[list[Own], list[str]]":
    """The metrics of one's own that can be loaded, and what is wrong with the others."""
    from evaluation.metrics import own

    found, faults = [], []
    for name, stanza in settings.metrics.items():
        try:
            found += own.load({name: stanza and stanza.model_dump()})
        except InputError as error:
            faults.append(str(error))
    return found, faults


def _row_faults(settings: "Settings") -> Iterator[Fault]:
    for name, method in settings.methods.items():
        keys: Keys = ("methods", name)
        if name == "real":
            yield Fault(keys, "the photos have this name; choose another")
        yield from _kind_faults(keys, method)
        if not method.is_sampled:
            yield from _naming_faults(keys, method)
            continue
        if method.base and method.base not in settings.models:
            yield Fault((*keys, "base"), unknown_name(method.base, settings.models, "models: "))
        yield from _stanza_faults(settings, keys, method)


def _stanza_faults(settings: "Settings", keys: Keys, method: "Method") -> Iterator[Fault]:
    if method.module:
        yield from _module_faults(keys, method, "generate")
    try:
        type(settings.sampling).model_validate(settings.sampling.model_dump() | method.sampling)
    except ValidationError as error:
        for fault in explained(type(settings.sampling), error):
            yield Fault((*keys, "sampling", *fault.keys), fault.text)


def _study_faults(settings: "Settings") -> Iterator[Fault]:
    """Of the section `study`, and of what its levels make of a row and of `alignment`."""
    readings, faults = expand(settings)
    yield from faults
    if settings.study and settings.study.metrics:
        metrics = _metrics_for(settings, settings.study.metrics)
        for name in settings.study.metrics:
            if name not in metrics:
                yield Fault(("study", "metrics"), unknown_name(name, metrics))
            elif not metrics[name].has_error:
                yield Fault(("study", "metrics"), f"{name!r} has no standard error, so rows are not compared by it")
            elif metrics[name].extractor not in dict(settings.extractors.given()):
                by: Keys = ("extractors", metrics[name].extractor)
                text = f"{name!r} needs extractors.{metrics[name].extractor}, which is null"
                yield Fault(("study", "metrics"), text, (("study", "metrics"), by))
    known = {*_alignment_faults(settings), *_training_faults(settings)}
    for reading in readings.values():
        if not reading.choices:
            continue
        changed = settings.model_copy(update={"alignment": reading.alignment})
        for fault in [
            *_stanza_faults(settings, (), reading.stanza),
            *_alignment_faults(changed),
            *_training_faults(changed),
        ]:
            # A pair's is already reported for the single level.
            if fault not in known:
                known.add(fault)
                yield Fault((*_keys_of(reading), *fault.keys), fault.text)


def _keys_of(reading: Reading) -> Keys:
    """The level that a fault of a reading is blamed on, of two the second: by itself, each has been looked at before."""
    choice = reading.choices[-1]
    return "study", "factors", choice.factor, "levels", choice.level


def _metric_module_faults(settings: "Settings") -> Iterator[Fault]:
    for name, metric in settings.metrics.items():
        if metric is not None:
            yield from _module_faults(("metrics", name), metric, "metrics")


# What each kind of row needs, by the key that makes it one, and what else it may have beside a label.
KINDS = {
    "module": (("module", "base", "version"), ("artefacts", "params", "sampling", "source")),
    "images": (("images", "made_by"), ("pattern", "names", "size", "surplus")),
    "bundle": (("bundle",), ("row", "made_by")),
}


def _kind_faults(keys: Keys, method: "Method") -> Iterator[Fault]:
    """A row is made by a module, or is images, or another run's: it has the keys of one of these."""
    given = [key for key in KINDS if getattr(method, key)]
    if len(given) > 1:
        by = tuple((*keys, key) for key in given)
        yield Fault((*keys, given[-1]), f"the row has {' and '.join(given)}; leave one", by)
        return
    kind = given[0] if given else "module"
    needed, allowed = KINDS[kind]
    for key in needed:
        if key not in method.model_fields_set or getattr(method, key) in ("", None):
            yield Fault((*keys, key), "missing")
    others = {key for some in KINDS.values() for each in some for key in each} - {*needed, *allowed, "version"}
    for key in sorted(others):
        if getattr(method, key) not in ("", None, {}):
            yield Fault((*keys, key), f"is not for a row with {kind}; leave it out", ((*keys, key), (*keys, kind)))


def _naming_faults(keys: Keys, method: "Method") -> Iterator[Fault]:
    """Names of images that are by a pattern or a table, as far as this can be said without the files."""
    if method.pattern and method.names:
        by = ((*keys, "pattern"), (*keys, "names"))
        yield Fault((*keys, "pattern"), "names say which file is which already; leave one", by)
    if method.pattern:
        try:
            Pattern(method.pattern)
        except InputError as error:
            yield Fault((*keys, "pattern"), str(error))
    places = method.places
    if len({Path(place).resolve() for place in places}) < len(places):
        yield Fault((*keys, "images"), f"expected each place once, found {shown(method.images)}")


def _module_faults(keys: Keys, stanza: "Method | OwnMetric", needed: str) -> Iterator[Fault]:
    """The module is read, not imported: importing torch here would cost every dry run seconds."""
    try:
        body = statements(stanza.module)
    except InputError as error:
        yield Fault((*keys, "module"), f"{stanza.module!r} cannot be read: {error}")
        return
    if body is None:
        yield Fault((*keys, "module"), f"no module {stanza.module!r}")
    elif missing := [name for name in ("Params", needed) if name not in defined(stanza.module)]:
        yield Fault((*keys, "module"), f"module {stanza.module!r} has no {' and no '.join(missing)}")
    elif (known := fields_of(stanza.module, "Params")) is not None:
        for key in sorted(stanza.params.keys() - known):
            yield Fault((*keys, "params", key), unknown_key(key, known))


def _table_faults(settings: "Settings") -> Iterator[Fault]:
    methods = settings.methods
    if all(stanza.rows is None for stanza in settings.tables.values()):
        yield Fault(("tables",), "no table names rows; give one of them `rows`")
    for table, stanza in settings.tables.items():
        yield from _column_faults(settings, table, stanza)
        for row in stanza.rows or ():
            keys: Keys = ("tables", table)
            if row not in methods and row != "real":
                yield Fault(keys, unknown_name(row, ["real", *methods], "methods: "))
            elif row != "real" and _absent(settings, methods[row].base) and row not in _published(table):
                base = methods[row].base
                text = f"{row!r} cannot be run, since models.{base} is null, and has no published values"
                yield Fault(keys, text, (keys, ("models", base)))


def _comparison_faults(settings: "Settings") -> Iterator[Fault]:
    for row in settings.compare_with:
        if row not in settings.methods:
            yield Fault(("compare_with",), unknown_name(row, settings.methods, "methods: "))


def _column_faults(settings: "Settings", table: str, stanza: "TableStanza") -> Iterator[Fault]:
    """Columns are metrics whose network is there; those of a table with `by` are means."""
    if not stanza.columns:
        return
    keys: Keys = ("tables", table, "columns")
    known = _metrics_for(settings, stanza.columns)
    means = [metric.name for metric in known.values() if metric.scores]
    extractors = dict(settings.extractors.given())
    for name in stanza.columns:
        metric = known.get(name)
        if metric is None:
            yield Fault(keys, unknown_name(name, known))
        elif metric.extractor not in extractors:
            by: Keys = ("extractors", metric.extractor)
            yield Fault(keys, f"{name!r} needs extractors.{metric.extractor}, which is null", (keys, by))
        elif stanza.by and name not in means:
            text = f"{name!r} is no mean over images, boxes or labels, which alone are broken down: {', '.join(means)}"
            yield Fault(keys, text, (keys, ("tables", table, "by")))


def _metrics_for(settings: "Settings", names: Sequence[str]) -> "dict[str, Metric]":
    """The metrics of a configuration. Which there are of one's own, their modules alone say: they are imported only where one
    of the names is no other metric's.
    """
    known = known_metrics(settings)
    return known if known.keys() >= set(names) else known_metrics(settings, _loaded(settings)[0])


def known_metrics(settings: "Settings", own: "Sequence[Own]" = ()) -> "dict[str, Metric]":
    """The metrics of a configuration, by name; those of one's own as loaded."""
    from evaluation.metrics import metrics_of  # and pandas with it, which a dry run can do without

    further = {name: one for name, one in settings.extractors.given() if name not in ROLES}
    about = {
        name: {"name": one.name, "measures": measured_by(one.kind), "least": one.least or LEAST}
        for name, one in further.items()
    }
    described = {name: one for name, one in about.items() if one["measures"]}
    return metrics_of(described, [metric for one in own for metric in one.metrics])


def _absent(settings: "Settings", model: str) -> bool:
    return model in settings.models and settings.models[model] is None


def _published(table: str) -> set[str]:
    """Methods of which the paper's table has values."""
    with open(ROOT / PUBLISHED, newline="", encoding="utf-8") as file:
        return {row["method"] for row in csv.DictReader(file) if f"table{row['table']}" == table}


def _alignment_faults(settings: "Settings") -> Iterator[Fault]:
    """Names that must be there; what they stand for is needed where a row is aligned."""
    alignment, methods, models = settings.alignment, settings.methods, settings.models
    found = []
    for key, value, known in (
        ("base", alignment.base, models),
        ("method", alignment.method, methods),
        ("reference", alignment.reference, methods),
    ):
        keys: Keys = ("alignment", key)
        if value not in known:
            found.append(Fault(keys, unknown_name(value, known)))
        elif not settings.aligns:
            continue
        elif key != "base" and not methods[value].is_sampled:
            found.append(Fault(keys, f"{value!r} is not sampled here, and is needed on held-out layouts too"))
        elif _absent(settings, base := value if key == "base" else methods[value].base):
            text = f"{value!r} has no model folder: it is null under models"
            found.append(Fault(keys, text, (keys, ("models", base))))
    if not found and not {"alignment", "eta"} <= methods[alignment.method].artefacts.keys():
        keys = ("alignment", "method")
        text = f"{alignment.method!r} is not a method with the artefacts `alignment` and `eta`"
        found.append(Fault(keys, text, (keys, ("methods", alignment.method, "artefacts"))))
    if not found and not methods[alignment.method].is_aligned:
        keys = ("methods", alignment.method, "artefacts", "alignment")
        text = (
            f"{alignment.method!r} is alignment.method, whose module is the one trained here; give another row its own"
        )
        found.append(Fault(keys, text, (keys, ("alignment", "method"))))
    if not found and (methods[alignment.reference].is_aligned or methods[alignment.reference].takes_eta):
        keys = ("alignment", "reference")
        text = f"{alignment.reference!r} is made with what is trained or chosen here, and eta is chosen against it"
        found.append(Fault(keys, text, (keys, ("methods", alignment.reference, "artefacts"))))
    yield from found
    if not settings.aligns:
        return
    there = ["backbone", *(name for name, model in models.items() if model is not None)]
    if alignment.text.model not in there:
        yield Fault(("alignment", "text", "model"), unknown_name(alignment.text.model, there))


def _training_faults(settings: "Settings") -> Iterator[Fault]:
    """The module can be built, the noise loss has something to train, and there are as many images as are asked for."""
    train, section = settings.alignment.train, ("alignment", "train")
    model, images = settings.alignment.model, settings.data.train.count
    if model.width % model.heads:
        keys: Keys = ("alignment", "model", "heads")
        yield Fault(
            keys, f"{model.heads} does not divide the width, {model.width}", (keys, ("alignment", "model", "width"))
        )
    batches: dict[Keys, int] = {(*section, "batch"): train.batch}
    if train.objective == "align+noise":
        batches[(*section, "denoiser", "batch")] = train.denoiser.batch
    for keys, batch in batches.items():
        if settings.aligns and batch > images:
            yield Fault(keys, f"{batch}, but data.train.count is {images}", (keys, ("data", "train", "count")))
    noise, trained = train.objective == "align+noise", train.train_denoiser != "none"
    for key, is_set in (("train_denoiser", trained), ("second_order", train.second_order)):
        if is_set and not noise:
            keys = (*section, key)
            text = f"{shown(getattr(train, key))} needs objective: align+noise"
            yield Fault(keys, text, (keys, (*section, "objective")))
    if noise and not (trained or train.second_order):
        text = "the noise loss would train nothing: set train_denoiser to fuser or unet, or second_order to true"
        by = tuple((*section, key) for key in ("objective", "train_denoiser", "second_order"))
        yield Fault((*section, "objective"), text, by)
    calibrate, heldout = settings.alignment.calibrate, settings.data.heldout.count
    for key, asked in (("count", calibrate.count), ("images", calibrate.images or 0)):
        if settings.aligns and asked > heldout:
            keys = ("alignment", "calibrate", key)
            yield Fault(keys, f"{asked}, but data.heldout.count is {heldout}", (keys, ("data", "heldout", "count")))


def _data_faults(settings: "Settings") -> Iterator[Fault]:
    data, sourced = settings.data, list(_layout_set_faults(settings))
    yield from sourced
    given = [key for key in ("root", "draw", "files") if getattr(data, key) is not None]
    stated = data.model_dump(exclude_none=True)
    needed = needs_data_set(stated)
    # Whoever names a folder has no need to take the files out of the overlay below.
    if given not in (["root"], ["draw"], ["files"], ["root", "files"]) and (given or needed):
        by = tuple(("data", key) for key in given or ("root", "draw"))
        yield Fault(("data", "root"), "give either data.root or data.draw, and null for the other", by)
    try:
        dataset = find_dataset(data.dataset)
    except InputError as error:
        yield Fault(("data", "dataset"), str(error))
        return
    if data.draw is not None and data.dataset != "coco":
        text = f"what is drawn is a COCO, but data.dataset is {shown(data.dataset)}"
        yield Fault(("data", "draw"), text, (("data", "draw"), ("data", "dataset")))
    if needed:
        yield from (Fault(("data",), fault) for fault in dataset.faults(stated))
    sourced_train = source_of(stated, "train") is not None or data.draw is not None
    if settings.aligns and not sourced_train and "train" not in photos_of(dataset):
        text = f"{data.dataset!r} has no photos of the split train, on which aligned rows are trained; give data.train.source"
        yield Fault(("data", "dataset"), text)
    if data.files is not None:
        files = distributed(dataset)
        yield from (Fault(("data", "files", name), "missing") for name in sorted(files - data.files.keys()))
        for name in sorted(data.files.keys() - files):
            yield Fault(("data", "files", name), unknown_key(name, sorted(files)))


def _layout_set_faults(settings: "Settings") -> Iterator[Fault]:
    """Sources have a reader each; training needs photos, and a larger set of them the data set's test."""
    data = settings.data
    stated = data.model_dump(exclude_none=True)
    for keys, layout_set in _sets(settings):
        yield from (Fault((*keys, "reader"), fault) for fault in faults_of(layout_set.model_dump()))
        if not layout_set.path and not layout_set.files:
            yield Fault((*keys, "path"), "give a path, or files to fetch")
        for name in layout_set.files or {}:
            if not re.fullmatch(r"\w[\w.+-]*", name):
                yield Fault((*keys, "files", name), "not a file's name of letters, digits, and . _ + - after the first")
    train = source_of(stated, "train")
    if train is not None and not train.get("photos") and settings.aligns:
        keys = ("data", "train", "source") if data.train.source else ("data", "source")
        text = "has no photos, and aligned rows are trained on them; give photos, or data.train.source or a data set with some"
        yield Fault((*keys, "photos"), text, (keys,))
    if data.val is not None and source_of(stated, "test") is not None:
        by = (("data", "val"), ("data", "source"), ("data", "test", "source"))
        yield Fault(
            ("data", "val"), "is of the data set, but the test layouts are of a source; set data.val to null", by
        )


def _sets(settings: "Settings") -> Iterator[tuple[Keys, "SetSource"]]:
    """Every foreign set, by its keys."""
    data = settings.data
    for keys, layout_set in (
        (("data", "source"), data.source),
        (("data", "train", "source"), data.train.source),
        (("data", "test", "source"), data.test.source),
    ):
        if layout_set is not None:
            yield keys, layout_set


def _evaluation_faults(settings: "Settings") -> Iterator[Fault]:
    """Readings of the protocol that contradict each other, and seeds that do not begin with the tables' own."""
    regions, data, seed = settings.regions, settings.data, settings.sampling.seed
    if regions.pad != "none" and regions.resize != "squash":
        text = f"{regions.resize!r} has no use for pad {regions.pad!r}; choose one"
        yield Fault(("regions", "resize"), text, (("regions", "resize"), ("regions", "pad")))
    for name, extractor in settings.extractors.given():
        if not re.fullmatch("[a-z][a-z0-9_]*", name):
            yield Fault(("extractors", name), "not a name of small letters, digits and _")
        for fault in faults(name, extractor.model_dump(exclude_none=True)):
            yield Fault(("extractors", name, *filter(None, [fault.key])), fault.text)
    for row in (row for row, method in settings.methods.items() if method.crops == "detected"):
        key: Keys = ("methods", row, "crops")
        if "detector" not in dict(settings.extractors.given()):
            text = "'detected' needs extractors.detector, which is null"
            yield Fault(key, text, (key, ("extractors", "detector")))
        if not row.endswith("_detected"):
            row_so = f"{row}_detected: {{like: {row}, crops: detected}}"
            yield Fault(key, f"'detected' is for a row whose name says so, such as {row_so}")
    asked = data.val.count if data.val else 0
    if settings.evaluation.reference == "full_val" and asked < data.test.count:
        text = f"'full_val' needs data.val.count of at least data.test.count, {data.test.count}; found {asked}"
        by = (("evaluation", "reference"), ("data", "val", "count"), ("data", "test", "count"))
        yield Fault(("evaluation", "reference"), text, by)
    if (resolution := settings.evaluation.resolution or 0) > data.size:
        keys: Keys = ("evaluation", "resolution")
        yield Fault(keys, f"{resolution}, above data.size, {data.size}", (keys, ("data", "size")))
    if settings.seeds and settings.seeds[0] != seed:
        text = f"begins with {settings.seeds[0]}, expected sampling.seed, {seed}: the tables' rows are of it"
        yield Fault(("seeds",), text, (("seeds",), ("sampling", "seed")))


def _fetch_faults(settings: "Settings") -> Iterator[Fault]:
    """Whatever may be fetched needs the section `fetch`, a licence named there, and a checksum or a commit."""
    known = settings.fetch.licences if settings.fetch else {}
    licences: dict[Keys, str] = {}
    for keys, source in _downloads(settings):
        licences[keys] = source.licence
        if source.identity is None:
            text = "give one of sha256, md5, or addresses that hold a commit's full hash and, after it, the same path"
            yield Fault(keys, text)
    for name, extractor in settings.extractors.given():
        hub = (extractor.hub, extractor.revision, extractor.licence)
        found = described(extractor.kind)
        if extractor.source is not None and any(hub):
            yield Fault(("extractors", name, "source"), "give either a source or hub, revision and licence")
        elif any(hub) and None in hub:
            yield Fault(("extractors", name), "give hub, revision and licence, or none of them")
        elif any(hub) and found and not found.folder:
            yield Fault(("extractors", name, "hub"), f"{extractor.kind} is one file, not a folder; give its source")
        elif not extractor.path and extractor.source is None and not any(hub) and not (found and found.own):
            yield Fault(("extractors", name, "path"), "give either a path or a source")
        elif extractor.licence is not None:
            licences["extractors", name] = extractor.licence
    for name, model in settings.models.items():
        if model is None:
            continue
        if model.text_of:
            if any((model.hub, model.revision, model.licence)):
                yield Fault(("models", name, "text_of"), "has no use for hub, revision and licence; give it alone")
            continue
        hub = (model.hub, model.revision, model.licence)
        if None in hub and (model.path is None or any(hub)):
            yield Fault(("models", name), "give either path, or hub, revision and licence")
        elif model.licence is not None:
            licences["models", name] = model.licence
    if licences and settings.fetch is None:
        yield Fault(("fetch",), "missing, and needed by sources")
        return
    for keys, licence in licences.items():
        if licence not in known:
            yield Fault((*keys, "licence"), unknown_name(licence, known, "fetch.licences: "))
    for licence in settings.fetch.accept if settings.fetch else []:
        if licence not in known:
            yield Fault(("fetch", "accept"), unknown_name(licence, known, "fetch.licences: "))


def _downloads(settings: "Settings") -> Iterator[tuple[Keys, "Source"]]:
    """Every file that may be fetched, by its keys."""
    for file, source in (settings.data.files or {}).items():
        yield ("data", "files", file), source
    for keys, layout_set in _sets(settings):
        for file, source in (layout_set.files or {}).items():
            yield (*keys, "files", file), source
    for name, extractor in settings.extractors.given():
        if extractor.source is not None:
            yield ("extractors", name, "source"), extractor.source
