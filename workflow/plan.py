"""What a run consists of: its rows, splits and shards, and the values whose change reruns a job.

Rules take values from `Plan`, files from its `path` (workflow.paths), and from workflow.products what a table, figure or study
is made of. It is plain Python, without Snakemake and without torch. A row is `real`, a method, a candidate for eta, a method
with another sampling seed, a reading of the study, or one of those with another training seed.

What reruns a job is its inputs and its `params`. A file that a rule makes is an input; of what is the user's own (a model
folder, a file of weights) and of the configuration, `params` hold a key, a short text that changes with its meaning.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.datasets import find_dataset, photos_of
from evaluation.datasets.naming import PATTERN, OutsideRow
from evaluation.datasets.source import frame, needs_data_set, paths_of, source_of
from evaluation.networks import DETECTIONS, SCORES, described, measured_by
from formats.archives import is_litter
from formats.bundles import Bundle, BundledRow
from formats.checksums import SUMS
from formats.files import read_json, sha256, write_json
from formats.modules import defined, file_of
from workflow.inputs import linked, place, resolve
from workflow.paths import Paths
from workflow.settings import Architecture, Extractor, Method, Section, Settings
from workflow.study import Reading, expand
from workflow.trained import Trained, digest

REAL = "real"
TABLES = ("best", "significance", "adherence", "distances", "cost")  # behind those that the configuration names
BELOW = 8  # folders below a layout set's in which its files are looked for; links in a circle end there
FIGURES = ("panel", "metrics", "sizes", "categories")
OF_TRAINING = ("training", "calibration")  # figures without rows


class Seeded(NamedTuple):
    """A row once more, with another seed of sampling or of training; of images that are there, the place that they are at
    among the row's.
    """

    row: str
    seed: int


class Candidate(NamedTuple):
    """A row with a multiple of its calibrated eta, sampled on held-out layouts only."""

    row: str
    variant: str
    file: str


class Sampled(NamedTuple):
    """Images that the run samples: `images` of a row on a split."""

    row: str
    split: str
    images: int


class Plan:
    """The run that settings describe. It writes config.json, and links to paths that no rule can name (inputs.linked)."""

    # Code whose hashes are recorded with the metrics: all that makes layouts, images and numbers.
    CODE = ("formats", "hcma", "baselines", "evaluation", "workflow/miniature", "workflow/write_method.py")

    def __init__(self, settings: Settings) -> None:
        # Every model, extractor and data root is a local path here; `downloads` says what has to be brought there.
        self.settings, self.downloads = resolve(settings)
        self.path = Paths(f"results/{settings.run}")

    def write_config(self) -> None:
        """Write config.json, from which programs read their sections: whole or not at all, and only what is new."""
        _write_new(Path(self.path.config), stated_keys(self.settings))
        for variant, trained in self.variants.items():
            if variant:
                self._write_sections(self.path.train(variant).config, trained)

    def _write_sections(self, path: str, trained: Trained) -> None:
        """The sections that programs read of a variant: its own `alignment`, and the row whose params it has."""
        alignment = stated_keys(trained.alignment) | {"method": trained.row}
        _write_new(Path(path), {"alignment": alignment, "methods": {trained.row: {"params": trained.params}}})

    # Rows.

    @cached_property
    def rows(self) -> list[str]:
        """The tables' rows that can be run, each once, in the tables' order."""
        named = [stanza.rows or [] for stanza in self.settings.tables.values()]
        return list(dict.fromkeys(row for rows in named for row in self.runnable(rows)))

    def rows_of(self, table: str) -> list[str]:
        """The rows of a table of the configuration, also those that show published values alone."""
        stated = self.settings.tables[table].rows
        return self.rows if stated is None else self.shown(stated)

    def runnable(self, rows: Iterable[str]) -> list[str]:
        """Without the methods whose model is null, which have no weights: their rows show the published values. Without `real`
        where the test layouts have no photos.
        """
        methods, models = self.settings.methods, self.settings.models
        there = self.shown(rows)
        return [row for row in there if row == REAL or not methods[row].is_sampled or models[methods[row].base]]

    def shown(self, rows: Iterable[str]) -> list[str]:
        """The rows of a table, without `real` where there are no photos."""
        return [row for row in rows if row != REAL or self.has_photos("test")]

    @cached_property
    def methods(self) -> list[str]:
        """The rows beside `real`, in the tables' order: sampled, or made elsewhere."""
        return [row for row in self.rows if row != REAL]

    @cached_property
    def sampled_methods(self) -> list[str]:
        """Those that the run samples."""
        return [row for row in self.methods if self.settings.methods[row].is_sampled]

    @cached_property
    def pictured(self) -> list[str]:
        """The rows that have images here; one of a bundle without images has its summary alone."""
        return [row for row in self.rows if row not in self.summarized]

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """The aligned method, and each reading whose eta is chosen, with every multiple of its calibrated eta."""
        return {
            f"{trained.row}_eta_{n}": Candidate(trained.row, variant, self.path.train(variant).candidate(n))
            for variant, trained in ((variant, self.variants[variant]) for variant in self.choosing)
            for n in range(len(trained.alignment.calibrate.multiples))
        }

    @cached_property
    def choosing(self) -> list[str]:
        """The variants whose eta is chosen on held-out data, instead of taken over from another training seed."""
        return [variant for variant, trained in self.variants.items() if trained.after is None]

    def chosen_first(self, variant: str) -> list[str]:
        """Of the training that a variant repeats, eta as it was calibrated and as it was chosen."""
        first = self.path.train(str(self.variants[variant].after))
        return [first.eta, first.calibration]

    def candidates_of(self, variant: str) -> list[str]:
        return [row for row, candidate in self.candidates.items() if candidate.variant == variant]

    @cached_property
    def repeats(self) -> dict[str, Seeded]:
        """Every row once more for each seed, or place of images, after the first, which the tables are of."""
        repeats: dict[str, Seeded] = {}
        for row in self.methods:
            seeds, places = self.settings.seeds[1:], range(1, len(self.settings.methods[row].places))
            again = {f"{row}_seed_{seed}": Seeded(row, seed) for seed in seeds if row in self.sampled_methods}
            repeats |= again or {f"{row}_place_{place}": Seeded(row, place) for place in places}
        return repeats

    def repeats_of(self, row: str) -> list[str]:
        return [name for name, seeded in self.repeats.items() if seeded.row == row]

    @cached_property
    def compared_with(self) -> list[str]:
        """Rows that every other row is compared with, in the table of significance."""
        return [row for row in self.settings.compare_with if row in self.rows]

    @cached_property
    def opened_with(self) -> list[str]:
        """The two rows that the page opens with: the first of `compare_with` that have pictures, else others."""
        rows = [row for row in self.settings.compare_with if row in self.pictured]
        rows += [row for row in [*self.pictured[1:], *self.pictured[:1]] if row not in rows]
        return [rows[0], rows[min(1, len(rows) - 1)]]

    def partners(self, row: str) -> list[str]:
        """Rows after `row`, by name, that some table compares it with."""
        later = [other for other in sorted(self.methods) if other > row]
        tables = [set(self.rows_of(name)) for name, stanza in self.settings.tables.items() if not stanza.by]
        always = set(self.compared_with)
        return [other for other in later if {row, other} & always or any({row, other} <= rows for rows in tables)]

    def stanza(self, row: str) -> Method:
        """The method that makes a row's images, with the seed of a repeat."""
        if seeded := self.repeats.get(row):
            method = self.settings.methods[seeded.row]
            if method.places:
                return method.model_copy(update={"images": method.places[seeded.seed]})
            return method.model_copy(update={"sampling": {**method.sampling, "seed": seeded.seed}})
        if row in self.retrainings:
            return self.stanza(self.retrainings[row].row)
        if row in self.candidates:
            return self.stanza(self.candidates[row].row)
        return self.readings[row].stanza if row in self.readings else self.settings.methods[row]

    # The study.

    @cached_property
    def readings(self) -> dict[str, Reading]:
        """The rows of the study, its base first."""
        return expand(self.settings)[0]

    @cached_property
    def retrainings(self) -> dict[str, Seeded]:
        """The study's aligned rows once more for every training seed after the first."""
        rows = [row for row, reading in self.readings.items() if reading.repeated and reading.stanza.is_aligned]
        seeds = self.settings.study.training_seeds[1:] if self.settings.study else []
        return {f"{row}_training_{seed}": Seeded(row, seed) for row in rows for seed in seeds}

    def retrainings_of(self, row: str) -> list[str]:
        return [name for name, seeded in self.retrainings.items() if seeded.row == row]

    @cached_property
    def compared(self) -> dict[str, list[str]]:
        """Rows that each row of the study is compared with: the base, `against`, and of a pair each of its levels alone."""
        against = self.settings.study.against if self.settings.study else []
        alone = {reading.choices: row for row, reading in self.readings.items()}
        return {
            row: [
                *([alone[()]] if reading.choices else []),
                *against,
                *(alone[(choice,)] for choice in reading.choices if len(reading.choices) > 1),
            ]
            for row, reading in self.readings.items()
        }

    # Splits and shards.

    @cached_property
    def splits(self) -> list[str]:
        """Without those to train on where no row needs them and the data set has none: it may have a test split alone."""
        photos = photos_of(self.dataset)
        train = [
            split for split in ("train", "heldout") if self.settings.aligns or self.source(split) or split in photos
        ]
        return [*train, "test", *(["val"] if self.settings.data.val else [])]

    def real_summary(self, split: str) -> list[str]:
        """The photos that a split's images are measured against; more than the test sample's with `full_val`, none where the
        layouts have none.
        """
        if not self.has_photos(split):
            return []
        wide = split == "test" and self.settings.evaluation.reference == "full_val"
        return [self.path.summary(REAL, "val" if wide else split)]

    def reference_set(self, split: str) -> str:
        return self.settings.evaluation.reference if split == "test" else "same_ids"

    def count(self, split: str) -> int:
        """Layouts of a split."""
        return int(getattr(self.settings.data, split).count)

    def shards(self, split: str, count: int | None = None) -> list[str]:
        """Names of the shards that hold the first `count` layouts of a split; all by default."""
        count, size = count or self.count(split), self.settings.data.shard_size
        apart = min(self.first.get(split, 0), count)
        shards = math.ceil(apart / size) + math.ceil((count - apart) / size)
        return [f"{number:04d}" for number in range(shards)]

    @cached_property
    def first(self) -> dict[str, int]:
        """Of a split, how many layouts have shards of their own: those that candidates for eta are sampled on."""
        images = self.settings.alignment.calibrate.images
        return {"heldout": images} if images else {}

    def sampled_shards(self, split: str) -> list[str]:
        """Training uses all held-out layouts; the candidates for eta are sampled on the first of them."""
        return self.shards(split, self.settings.alignment.calibrate.images if split == "heldout" else None)

    def parts(self, split: str) -> dict[str, list[str]]:
        """The shards that one job encodes into one file of latents, by the file's number."""
        shards, size = self.shards(split), self.settings.resources.encode_shards
        return {f"{n:04d}": shards[first : first + size] for n, first in enumerate(range(0, len(shards), size))}

    def latents(self, split: str, variant: str = "") -> list[str]:
        """The cached latents and text features that a variant is trained on."""
        paths = self.path.train(self._home(variant, "cache_key"))
        return [paths.latents(split, part) for part in self.parts(split)]

    def layout_shards(self, split: str) -> list[str]:
        return [self.path.layout_shard(split, shard) for shard in self.sampled_shards(split)]

    def regions(self, row: str, split: str, shard: str) -> str:
        """The table by which regions are cut from a row's shard."""
        detected = row != REAL and split == "test" and self.stanza(row).crops == "detected"
        return self.path.detected_regions(row, split, shard) if detected else self.path.regions(split, shard)

    def features(self, row: str, split: str) -> list[str]:
        return [self.path.features(row, split, shard) for shard in self.sampled_shards(split)]

    @cached_property
    def sampled(self) -> list[Sampled]:
        """All images that the run samples."""
        heldout = self.settings.alignment.calibrate.images or self.count("heldout")
        studied = [row for row in [*self.readings, *self.retrainings] if row not in self.methods]
        made_here = [row for row in [*self.methods, *self.repeats] if self.stanza(row).is_sampled]
        rows = [Sampled(row, "test", self.count("test")) for row in [*made_here, *studied]]
        choosing = [*self.candidates, self.settings.alignment.reference] if self.settings.aligns else []
        return rows + [Sampled(row, "heldout", heldout) for row in choosing]

    # Rows made elsewhere.

    @cached_property
    def imported(self) -> list[str]:
        """The rows and repeats whose images other code made."""
        rows = [*self.methods, *self.repeats]
        return [row for row in rows if not self.stanza(row).is_sampled and row not in self.summarized]

    @cached_property
    def summarized(self) -> list[str]:
        """The rows of bundles without images, of which there are summaries."""
        return [row for row, told in self._bundled.items() if not told.images]

    @cached_property
    def summarized_like(self) -> list[str]:
        """A summary that is made here: by its networks and protocol others are taken."""
        here = [row for row in self.rows if row not in self.summarized]
        return [self.path.summary(row, "test") for row in here[:1]]

    @cached_property
    def _bundled(self) -> dict[str, BundledRow]:
        """What their bundles say of the rows that are of bundles; raises InputError."""
        found: dict[str, BundledRow] = {}
        for row in self.methods:
            stanza = self.settings.methods[row]
            if stanza.bundle:
                with Bundle(Path(stanza.bundle)) as bundle:
                    told, name = bundle.row(stanza.row or row), stanza.row or row
                    of = told.made_by or f"row {name} of the run {bundle.run}, at commit {bundle.commit or 'unknown'}"
                    found[row] = replace(told, made_by=stanza.made_by or of)
        return found

    @cached_property
    def elsewhere(self) -> dict[str, str]:
        """Who made the rows that this run has not, on one line each: they are marked wherever they are shown."""
        made = {row: self.settings.methods[row].made_by or "" for row in self.methods}
        made |= {row: told.made_by or "" for row, told in self._bundled.items()}
        return {row: " ".join(by.split()) for row, by in made.items() if row not in self.sampled_methods}

    @property
    def layouts_are_made(self) -> bool:
        """Whether the test layouts are there, so that names can be held against them."""
        return all(Path(path).is_file() for path in self.layout_shards("test"))

    def made_by(self, row: str) -> str | None:
        """Who made a row or repeat; None of this run's own."""
        return self.elsewhere.get(self.repeats[row].row if row in self.repeats else row)

    def outside_row(self, row: str) -> OutsideRow:
        """Where the images of a row or repeat are that other code made; of a row with several places it is the first."""
        stanza, made_by = self.stanza(row), self.made_by(row) or ""
        if stanza.bundle:
            return OutsideRow(row, made_by, bundle=stanza.bundle, bundle_row=stanza.row or row)
        return OutsideRow(
            row,
            made_by,
            images=stanza.places[0],
            pattern=stanza.pattern or PATTERN,
            table=stanza.names or "",
            size=stanza.picture_size,
            surplus=stanza.surplus == "pass_over",
        )

    @cached_property
    def import_keys(self) -> dict[str, str]:
        """What the images of each row made elsewhere are: their files' names, sizes and times, and how they are read.

        Raises InputError and OSError for files that cannot be listed.
        """
        keys = {}
        for row in self.imported:
            outside = self.outside_row(row)
            depth = 0 if outside.bundle else outside.naming.depth
            files = [Path(path) for path in (outside.place, outside.table) if path]
            keys[row] = digest([outside.options(), [listing(path, depth) for path in files]])
        return keys

    # Data and weights.

    @cached_property
    def dataset(self) -> Any:
        """The module of the data set: evaluation/datasets."""
        return find_dataset(self.settings.data.dataset)

    @cached_property
    def data(self) -> dict[str, Any]:
        """The section `data`, as programs read it."""
        return self.settings.data.model_dump(exclude_none=True)

    def source(self, split: str) -> Mapping[str, Any] | None:
        """The foreign set that a split is read from; None is the data set."""
        return source_of(self.data, split)

    @cached_property
    def sources(self) -> list[Mapping[str, Any]]:
        """The foreign sets of all splits, each once."""
        found = [source for split in self.splits if (source := self.source(split))]
        return [source for place, source in enumerate(found) if source not in found[:place]]

    def has_photos(self, split: str) -> bool:
        """Whether a split's layouts have photos, of which the row `real` is made."""
        source = self.source(split)
        return bool(source.get("photos")) if source else split in photos_of(self.dataset)

    def photos(self, split: str) -> list[str]:
        """Options of evaluation.datasets.real: where a split's photos are, and how they come onto the canvas."""
        if source := self.source(split):
            return ["--photos", str(source["photos"]), "--resize", frame(source)]
        data = self.settings.data
        return ["--dataset", data.dataset, "--root", self.root, "--split", split, "--resize", data.resize]

    @cached_property
    def needs_data_set(self) -> bool:
        return needs_data_set(self.data)

    @cached_property
    def set_options(self) -> list[str]:
        """Options of evaluation.datasets: the folder of the data set, where any split is of it, and which layouts are apart."""
        first = [f"{split}={count}" for split, count in self.first.items()]
        return [*(["--root", self.root] * self.needs_data_set), *(["--first", *first] if first else [])]

    @cached_property
    def root(self) -> str:
        """The folder or file of the data set."""
        return str(self.settings.data.root) if self.settings.data.draw is None else self.path.coco

    @cached_property
    def drawn(self) -> str:
        """Options of the program that draws photos and annotations."""
        draw = self.settings.data.draw
        return f"--train {draw.train} --val {draw.val} --seed {draw.seed}" if draw else ""

    @cached_property
    def annotations(self) -> list[str]:
        """What layouts are made of: the data set's files, or the one that it is, and the foreign sets'."""
        names = getattr(self.dataset, "ANNOTATIONS", None)
        of_set = [f"{self.root}/{name}" for name in names] if names else [self.root]
        foreign = [
            path for one in self.sources for path in (*paths_of(one), *([one["captions"]] if "captions" in one else []))
        ]
        return [linked(path) for path in [*(of_set if self.needs_data_set else []), *foreign]]

    @cached_property
    def words(self) -> str:
        return linked(self.settings.data.words)

    def archives(self, *splits: str) -> list[str]:
        """The zips of splits' photos that a rule makes; a folder of the user's own is read without being watched."""
        photos = photos_of(self.dataset)
        names = dict.fromkeys(f"{photos[split]}.zip" for split in splits if split in photos and not self.source(split))
        fetched = {name.partition("/")[2] for name in self.downloads.files}
        return [f"{self.root}/{name}" for name in names if self.settings.data.draw or name in fetched]

    def model(self, name: str) -> str:
        """The folder of a model."""
        model = self.settings.models[name]
        return str(model.path if model else None)

    def base(self, row: str) -> str:
        """The folder of the model that a row is sampled from."""
        return f"{self.noise_of(row)}/model" if self.retrained(row) else self.model(self.stanza(row).base)

    @cached_property
    def extractors(self) -> dict[str, Extractor]:
        return dict(self.settings.extractors.given())

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The stanzas of metrics of one's own."""
        return {name: stanza.model_dump() for name, stanza in self.settings.metrics.items() if stanza is not None}

    @cached_property
    def recipes(self) -> dict[str, Architecture]:
        """Models of random weights, which a rule writes."""
        return {name: one for name, one in self.settings.architectures.items() if one.random_seed is not None}

    @cached_property
    def text_towers(self) -> dict[str, str]:
        """Models that a rule writes, of the text encoder of an open_clip folder."""
        return {name: model.text_of for name, model in self.settings.models.items() if model and model.text_of}

    @cached_property
    def counted(self) -> list[str]:
        """Models whose parameters are counted as loaded."""
        return [name for name in self.settings.architectures if self.settings.models.get(name)]

    def weights_made(self, *models: str) -> list[str]:
        """The SHA256SUMS, written last, of those of the models that a rule downloads or writes."""
        return [f"{folder}/{SUMS}" for folder in dict.fromkeys(map(self.model, models)) if self.is_made(folder)]

    @cached_property
    def extractors_made(self) -> list[str]:
        """Those of the extractors' files that a rule downloads or writes; one without a hash, by the SHA256SUMS beside it."""
        files = [
            stanza.path if stanza.sha256 else f"{Path(stanza.path).parent}/{SUMS}"
            for stanza in self.extractors.values()
            if stanza.path
        ]
        return [file for file in dict.fromkeys(files) if self.is_made(file)]

    def is_made(self, path: str) -> bool:
        """Whether a rule makes a file or folder: it is downloaded, or the run's."""
        return any(Path(folder) in Path(path).parents for folder in (self.downloads.folder, self.path.folder))

    # The aligned rows.

    @cached_property
    def variants(self) -> dict[str, Trained]:
        """What is trained, by the part of its paths that tells it from the configuration's own, which is "" and comes first."""
        alignment = self.settings.alignment
        stanza = self.settings.methods[alignment.method]
        own = Trained("", alignment, alignment.method, stanza.params, stanza.version)
        variants = {"": own}
        aligned = [row for row, reading in self.readings.items() if reading.stanza.is_aligned]
        for row in aligned:
            reading = self.readings[row]
            if reading.choices and reading.trains_as == row:
                stanza = reading.stanza
                variants[f"/{row}"] = Trained(f"/{row}", reading.alignment, row, stanza.params, stanza.version)
        for name, seeded in self.retrainings.items():
            if self.readings[seeded.row].trains_as == seeded.row:
                first = variants[self._variant_of_reading(seeded.row)]
                train = first.alignment.train.model_copy(update={"seed": seeded.seed})
                reseeded = first.alignment.model_copy(update={"train": train})
                variants[f"/{name}"] = replace(first, variant=f"/{name}", alignment=reseeded, after=first.variant)
        return variants

    def _variant_of(self, row: str) -> str:
        """The key of `variants` for a row."""
        return self.candidates[row].variant if row in self.candidates else self._variant_of_reading(row)

    def _variant_of_reading(self, row: str) -> str:
        """The same of a row that is no candidate; rows outside the study, and what trains as its base, have the run's own."""
        if seeded := self.retrainings.get(row):
            return f"/{self.readings[seeded.row].trains_as}_training_{seeded.seed}"
        if row not in self.readings or not (alone := self.readings[self.readings[row].trains_as]).choices:
            return ""
        return f"/{alone.row}"

    def trained(self, row: str) -> Trained:
        """What a row loads the module, the denoiser and eta of."""
        return self.variants[self._variant_of(row)]

    def _home(self, variant: str, key: str) -> str:
        """The first variant that has the same of what `key`, a property of Trained, tells: what they share is its file."""
        wanted = getattr(self.variants[variant], key)
        return next(other for other, one in self.variants.items() if getattr(one, key) == wanted)

    def loads_module(self, row: str) -> bool:
        """Whether a row's method loads the alignment module that the run trains."""
        return self.stanza(row).is_aligned

    def retrained(self, row: str) -> bool:
        """Whether a row is sampled from a denoiser that is trained further."""
        return (
            self.loads_module(row)
            and self.trained(row).noise_loss
            and self.stanza(row).base == self.settings.alignment.base
        )

    def noise_of(self, row: str) -> str:
        """The folder of the denoiser and the module that the noise loss trains for a row."""
        return self.path.train(self._home(self._variant_of(row), "denoiser_key")).noise

    def untuned_module(self, variant: str) -> str:
        """Weights of a variant's alignment module as losses (6) and (7) train it."""
        return self.path.train(self._home(variant, "module_key")).alignment

    def module(self, variant: str) -> str:
        """Weights of the alignment module that a variant's rows are sampled with."""
        if not self.variants[variant].noise_loss:
            return self.untuned_module(variant)
        return f"{self.path.train(self._home(variant, 'denoiser_key')).noise}/alignment.safetensors"

    def artefacts(self, row: str) -> dict[str, str]:
        """What a row's method loads beside the model, by name: files of the run or, from the root on, the user's own."""
        found = {name: str(Path(self.path.folder, path)) for name, path in self.stanza(row).artefacts.items()}
        if not self.loads_module(row):
            return found
        variant = self._variant_of(row)
        own = {"alignment": self.module(variant)}
        if row in self.candidates:
            own["eta"] = self.candidates[row].file
        elif found.get("eta") == self.path.train("").calibration:
            own["eta"] = self.path.train(variant).calibration
        return found | own

    def artefacts_made(self, row: str) -> list[str]:
        """Its artefacts, and what is trained of its model, as inputs."""
        trained = [f"{self.base(row)}/{SUMS}"] if self.retrained(row) else []
        return [*map(linked, self.artefacts(row).values()), *trained]

    def text_artefact(self, row: str) -> dict[str, str]:
        """The encoder of the alignment's targets, by name, where it is not the model's own."""
        if not self.loads_module(row) or not (model := self.trained(row).text_model):
            return {}
        return {f"text_{self.trained(row).alignment.text.feature}": self.model(model)}

    def text_options(self, variant: str) -> list[str]:
        """Options of hcma.cache for another text encoder than the base's own."""
        trained = self.variants[variant]
        model, feature = trained.text_model, trained.alignment.text.feature
        return ["--text", self.model(model), "--text-feature", feature] if model else []

    def sampling_models(self, row: str) -> list[str]:
        """The models that a row is sampled with."""
        text = self.trained(row).text_model if self.loads_module(row) else None
        return [self.stanza(row).base, *([text] if text else [])]

    # Keys for `params`: when one changes, the job runs again.

    def model_key(self, name: str) -> str:
        """What a model is: its commit on the hub, whose text encoder it is, its random weights' recipe, or its SHA256SUMS."""
        if source := self.downloads.models.get(name):
            return f"{source.hub}@{source.revision}"
        if name in self.text_towers:
            return f"text encoder of {self._folder_key(Path(self.text_towers[name]))}"
        return self._folder_key(Path(self.model(name)))

    def download_key(self, name: str) -> str:
        """What a download is: neither a mirror nor a licence's name."""
        if source := self.downloads.files.get(name):
            stated = source.model_dump(include={"size", "sha256", "md5"})
            return digest(stated if source.has_checksum else [stated, source.identity])
        return self.model_key(name)

    def _folder_key(self, folder: Path) -> str:
        recipe = self.recipes.get(folder.name)
        if recipe and folder.parent == Path(self.path.weights):
            return f"{recipe.kind}, random, seed {recipe.random_seed}"
        return sha256(folder / SUMS)[:16] if (folder / SUMS).is_file() else ""

    def model_keys(self, models: Iterable[str]) -> list[str]:
        return [self.model_key(name) for name in models]

    @cached_property
    def extractors_key(self) -> str:
        """The networks that measure, and the metrics that carry something from features; without a hash of its own, a file is
        what the SHA256SUMS beside it says.
        """
        stanzas = {
            name: stanza.model_dump(exclude={"path", "source", "licence"}) for name, stanza in self.extractors.items()
        }
        weights = {name: self._weights_key(stanza) for name, stanza in self.extractors.items() if not stanza.sha256}
        modules = {name: described(stanza.kind) for name, stanza in self.extractors.items()}
        own = {name: sha256(one.source) for name, one in modules.items() if one and one.own}
        carrying = {name: one for name, one in self.metrics.items() if "carry" in defined(one["module"])}
        return digest([stanzas, weights, own, *([carrying] if carrying else [])])

    def _weights_key(self, stanza: Extractor) -> str:
        if stanza.hub or not stanza.path:
            return f"{stanza.hub}@{stanza.revision}"
        return self._folder_key(Path(stanza.path).parent)

    def measured_by(self, measures: str) -> list[str]:
        """Names of the networks that measure features, detections or scores."""
        return [name for name, stanza in self.extractors.items() if measured_by(stanza.kind) == measures]

    @cached_property
    def metrics_key(self) -> str:
        """The metrics of one's own."""
        return digest(self.metrics) if self.metrics else ""

    @cached_property
    def data_key(self) -> str:
        """What layouts depend on beside annotations and words."""
        stated = self.settings.data.model_dump(
            exclude={"root", "draw", "files", "words", "shard_size"}, exclude_none=True
        )
        for section in (stated, stated["train"], stated["test"]):
            section.get("source", {}).pop("files", None)  # mirrors decide nothing
        return digest(stated)

    @cached_property
    def layouts_key(self) -> str:
        """The same with what Snakemake does not see of the annotations: files below a folder, whose own time need not change
        with theirs, and the code of readers and data sets of one's own. Raises OSError for files that cannot be listed.
        """
        named = [path for one in self.sources for path in paths_of(one)]
        named += [self.root] * (self.needs_data_set and not hasattr(self.dataset, "ANNOTATIONS"))
        listed = [listing(Path(path), BELOW) for path in named if Path(path).is_dir()]
        modules = [*(one["reader"] for one in self.sources), *[self.settings.data.dataset] * self.needs_data_set]
        own = [name for name in modules if "." in name and not name.startswith("evaluation.datasets.")]
        code = {name: sha256(file) for name in own if (file := file_of(name))}
        return digest([self.data_key, listed, code]) if listed or code else self.data_key

    def method_key(self, row: str) -> str:
        """What decides a row's images beside layouts, weights and what the run measures: stanza and sampling settings."""
        stanza = self.stanza(row)
        meaning = stanza.model_dump(include={"module", "base", "version", "params"})
        # Snakemake compares the set of inputs, not which is which; module and eta of aligned rows are of the run.
        of_run = ("alignment", "eta") if stanza.is_aligned else ()
        own = {name: path for name, path in stanza.artefacts.items() if name not in of_run}
        return digest([meaning, self.sampling(row), sorted(self.text_artefact(row)), *([own] if own else [])])

    def sampling(self, row: str) -> dict[str, Any]:
        """The sampling settings of a row."""
        return self.settings.sampling.model_dump() | self.stanza(row).sampling

    @cached_property
    def estimate_key(self) -> str:
        """What the pilot times."""
        models = {name: self.model_key(name) for name, model in self.settings.models.items() if model}
        keys = {sampled.row: self.method_key(sampled.row) for sampled in self.sampled}
        timed = [self.extractors_key, self.evaluation_device]
        sizes = [self.settings.data.size, self.settings.resources.batch_size]
        return digest([models, keys, self.variants[""].training_key, *sizes, *timed])

    @cached_property
    def pretrained(self) -> str:
        """The folder of the miniature's pretraining."""
        return place(self.settings.pretrain.work)

    @cached_property
    def protocol(self) -> list[str]:
        """Options of evaluation.protocol."""
        regions, resolution = self.settings.regions, self.settings.evaluation.resolution
        words = [f"--label-template={regions.label_template}", "--min-side", regions.min_side]
        words += ["--region-resize", regions.resize, "--region-pad", regions.pad]
        words += ["--max-per-image", regions.max_per_image] if regions.max_per_image else []
        words += ["--resolution", resolution] if resolution else []
        return list(map(str, words))

    # Speed and memory: a change reruns nothing.

    @staticmethod
    def untracked(value: str) -> Callable[..., str]:
        """A value for `params` whose change reruns nothing: Snakemake does not compare what is derived from a job's output."""
        return lambda wildcards, output: value

    def aligned_model(self, wildcards: Any, output: Any) -> str:
        """For `params`, the folder of the model that the alignment is of: where it is reruns nothing, what it is does."""
        return self.model(self.settings.alignment.base)

    def sampled_model(self, wildcards: Any, output: Any) -> str:
        """The same of the model that a row is sampled from."""
        return self.base(wildcards.method)

    def sections(self, wildcards: Any, output: Any) -> str:
        """For `params`, the file with the sections that programs read of a variant; which it is reruns nothing."""
        return self.path.train(wildcards.variant).config if wildcards.variant else self.path.config

    def needs(self, rule: str) -> dict[str, Callable[..., int]]:
        """Memory and minutes that a job of a rule requests from a cluster, times the number of the attempt."""
        common = self.settings.resources
        own = {name: vars(one) for name, one in common.rules.items()}.get(rule, {})  # type: ignore[call-overload]
        return {
            "mem_mb": lambda wildcards, attempt: (own.get("mem_mb") or common.mem_mb) * attempt,
            "runtime": lambda wildcards, attempt: (own.get("runtime") or common.runtime) * attempt,
        }

    @cached_property
    def training_gpus(self) -> int:
        return self.settings.resources.train_gpu or self.settings.resources.gpu

    @cached_property
    def launcher(self) -> str:
        """What starts the processes of a training, one a GPU. Weights, losses and precision are the program's own affair."""
        alone = "python"
        if self.training_gpus > 1:
            alone = (
                f"accelerate launch --multi_gpu --num_processes {self.training_gpus} --num_machines 1"
                " --mixed_precision no --dynamo_backend no"
            )
        return self.settings.resources.train_launcher or alone

    @cached_property
    def speed(self) -> str:
        """Options of hcma.sampling.sample."""
        resources = self.settings.resources
        switches = {"--compile": resources.compile, "--channels-last": resources.channels_last}
        chosen = [option for option, on in switches.items() if on]
        return " ".join(["--batch-size", str(resources.batch_size), "--device", resources.device, *chosen])

    @cached_property
    def evaluation_device(self) -> str:
        resources = self.settings.resources
        return resources.evaluation_device or resources.device

    @cached_property
    def evaluation_gpus(self) -> int:
        """GPUs that a job asks for which extracts features."""
        return int(self.evaluation_device != "cpu")

    @cached_property
    def evaluation_threads(self) -> int:
        resources = self.settings.resources
        return resources.evaluation_threads or resources.threads

    # What the run is compared with.

    @cached_property
    def recorded(self) -> str:
        """Metrics that the run must reproduce."""
        return place(self.settings.reference or f"results/reference/{self.settings.run}.json")

    def side_by_side(self, kind: str) -> str:
        """The comparison of two finished runs."""
        return f"results/compare/{called(self.settings.first)}-{called(self.settings.second)}.{kind}"

    def bundled(self, images: bool) -> list[str]:
        """What rules make of a bundle, by names below the run's folder: what others need to look at it, or to take its rows."""
        path, rows = self.path, [*self.rows, *self.repeats]
        files = [path.provenance, path.layouts("test"), path.left_out]
        for row in rows:
            files += [path.metrics(row, "test"), path.scores(row, "test"), path.summary(row, "test")]
            if images and row not in self.summarized:
                files += [path.samples(row, "test", shard) for shard in self.shards("test")]
            if row != REAL and self.stanza(row).is_sampled:
                files.append(path.spec(row))
        files += [path.table(name, kind) for name in self.table_names for kind in ("json", "csv", "md", "tex")]
        return [file.removeprefix(f"{path.folder}/") for file in [*files, *self.figures]]

    # What people look at.

    @cached_property
    def tables(self) -> list[str]:
        """CSV files, in the order of the report."""
        return [self.path.table(name) for name in self.table_names]

    @cached_property
    def table_names(self) -> list[str]:
        detectors, judges = (len(self.measured_by(measures)) for measures in (DETECTIONS, SCORES))
        further = {"agreement": detectors > 1, "judges": judges > 0, "seeds": bool(self.repeats)}
        return [*self.settings.tables, *TABLES, *(name for name, wanted in further.items() if wanted)]

    def table_key(self, name: str) -> str:
        """What the notes of a table of the configuration say of data and methods."""
        rows = self.rows_of(name) if name in self.settings.tables else []
        return digest([self.data_key, [self.stanza(row).source for row in rows if row in self.sampled_methods]])

    @cached_property
    def by_difficulty(self) -> list[str]:
        """The tables of the configuration that are broken down by difficulty."""
        return [name for name, stanza in self.settings.tables.items() if stanza.by]

    def against(self, table: str) -> str | None:
        """The row that a table by difficulty tests its rows against, where it has it."""
        other = self.settings.compare_with[-1]
        return other if other in self.runnable(self.rows_of(table)) else None

    @cached_property
    def bands(self) -> list[str]:
        """Options of evaluation.difficulty."""
        difficulty = self.settings.difficulty
        words = ["--objects-bands", *difficulty.objects, "--size-bands", *difficulty.size]
        words += ["--overlap-bands", *difficulty.overlap, "--tag-values", difficulty.tag_values]
        return list(map(str, [*words, "--least", difficulty.least]))

    @cached_property
    def labels(self) -> list[str]:
        """ROW=LABEL of the rows that have a label of their own."""
        methods = self.settings.methods
        return [f"{row}={methods[row].label}" for row in self.methods if methods[row].label]

    @cached_property
    def curves(self) -> list[str]:
        """Of each training that the run does."""
        paths = self.path.train("")
        return [paths.curves, *([f"{paths.noise}/curves.csv"] if self.variants[""].noise_loss else [])]

    @cached_property
    def figures(self) -> list[str]:
        return [self.path.figure(name, kind) for name in self.figure_names for kind in ("png", "svg")]

    @cached_property
    def figure_names(self) -> list[str]:
        """Without the distance against the number of images where there are no photos to measure it to, without those of the
        training where no row needs it; and one a table by difficulty.
        """
        names = [name for name in FIGURES if name != "sizes" or self.has_photos("test")]
        return [*names, *(OF_TRAINING if self.settings.aligns else ()), *self.by_difficulty]


def run_of(stated: str) -> str:
    """The folder or bundle of a finished run, of its name or the bundle's path."""
    return place(stated) if stated.endswith(".zip") else f"results/{stated}"


def called(stated: str | None) -> str:
    """What a finished run is called in a file's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(str(stated)).name.removesuffix(".zip"))


def listing(path: Path, depth: int) -> str:
    """A short hash of the names, sizes and times of a folder's files, down to a depth, or of one file's; nothing is read."""

    def below(folder: str, left: int, name: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            for entry in entries:
                if left and entry.is_dir():
                    yield from below(entry.path, left - 1, f"{name}{entry.name}/")
                elif not is_litter(entry.name):
                    about = entry.stat(follow_symlinks=os.path.exists(entry.path))  # of a link to nothing its own
                    yield f"{name}{entry.name} {about.st_size} {about.st_mtime_ns}"

    about = path.stat()
    lines = sorted(below(str(path), depth, "")) if path.is_dir() else [f"{about.st_size} {about.st_mtime_ns}"]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _write_new(path: Path, content: Any) -> None:
    """Write JSON unless it is what the file has."""
    if not path.exists() or path.read_text(encoding="utf-8") != json.dumps(content, indent=2) + "\n":
        write_json(path, content)


def stated_keys(value: Any) -> Any:
    """Settings as JSON, without keys that may be left out and are null: programs take such a key for one that is set."""
    if isinstance(value, Section):
        kept = [(key, one) for key, one in value if one is not None or _may_not_be_left_out(type(value), key)]
        return {key: stated_keys(one) for key, one in kept}
    return {key: stated_keys(one) for key, one in value.items()} if isinstance(value, dict) else value


def _may_not_be_left_out(section: type[Section], key: str) -> bool:
    return key in section.model_fields and section.model_fields[key].default is not None


def read_plan(config: Path) -> Plan:
    """The plan of a run's config.json; raises InputError."""
    return Plan(Settings.model_validate(read_json(config)))
