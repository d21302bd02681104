"""The configuration: every key with its type, its bounds and what it means, and the checks between keys.

`workflow/config/base.yaml` holds the published values, and an overlay what a scale changes (overlays.py). A default stands here
where a key may be left out. `docs/configuration.md` has the tables of these models (keys.py).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from formats.files import InputError
from workflow.consistency import contradictions
from workflow.inputs import FILLED
from workflow.keys import explained
from workflow.overlays import blamed, merge_faults, resolved, stacked_sets, vain_nulls
from workflow.paths import Paths


class SettingsError(InputError):
    """A configuration cannot be used; `faults` has one line for each of its faults."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class Section(BaseModel):
    """A mapping of the configuration: unknown keys and values of another type are faults."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _without_default_nulls(cls, values: Any) -> Any:
        """An overlay cannot take a key out of what it lies on: null is the same as leaving out a key whose default it is."""
        if not isinstance(values, dict):
            return values
        left_out = {key for key, field in cls.model_fields.items() if field.default is None}
        return {key: value for key, value in values.items() if value is not None or key not in left_out}


def _unique(values: list[Any]) -> list[Any]:
    if len({*values}) < len(values):
        raise PydanticCustomError("repeated", "")
    return values


def _images_or_auto(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or value < 1):
        raise PydanticCustomError("batch_size", "")
    return value


def _places(value: Any) -> Any:
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise PydanticCustomError("places", "")
    for path in paths:
        _path(path)
    return value


def _canvas(value: Any) -> Any:
    sides = [value, value] if type(value) is int else value
    if value != "unit" and not (
        isinstance(sides, list) and len(sides) == 2 and all(type(one) is int and one > 0 for one in sides)
    ):
        raise PydanticCustomError("canvas", "")
    return value


def _image_size(value: Any) -> Any:
    if value != "mixed" and _canvas(value) == "unit":
        raise PydanticCustomError("image_size", "")
    return value


def _levels(value: Any) -> Any:
    if not isinstance(value, dict | list) or not value:
        raise PydanticCustomError("levels", "")
    return value


def _path(value: str, refused: str = "\0\n\r") -> str:
    if odd := sorted(set(value) & set(refused)):
        raise PydanticCustomError("path", "{path} holds {sign}", {"path": repr(value), "sign": repr(odd[0])})
    return value


def _made(value: str) -> str:
    return _path(value, FILLED)


def _folder(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _rows(value: Any) -> Any:
    return {"rows": value} if isinstance(value, list) else value


def _ascending(values: list[Any]) -> list[Any]:
    if sorted(set(values)) != values:
        raise PydanticCustomError("ascending", "")
    return values


# The text in an annotation is what keys.py and messages say instead of a pattern.
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
# What no line of a log can hold; and where rules write, in whose names Snakemake would fill something in.
FilePath = Annotated[Text, AfterValidator(_path)]
MadePath = Annotated[FilePath, AfterValidator(_made)]
Unique = AfterValidator(_unique)
Run = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$"), "a name of letters, digits, _ and -"]
RunOrBundle = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9_-]+|[^\n\r\x00{}<>]+\.zip)$"),
    "a name of letters, digits, _ and -, or a path of a .zip",
]
RowName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$"), "a name of small letters, digits and _"]
ModelName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$"), "a name of letters, digits, _, . and -"]
ArtefactName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$"), "a name of small letters, digits and _"]
Line = Annotated[str, Field(pattern=r"^[^\r\n]*\S[^\r\n]*$"), "text on one line"]
FacetName = Annotated[
    str, Field(pattern=r"^(objects|size|overlap|tags|tags\..+)$"), "objects, size, overlap, tags or tags.NAME"
]
Edges = Annotated[
    list[Annotated[int, Field(ge=1)]],
    Field(min_length=1),
    AfterValidator(_ascending),
    "an ascending list of integers of at least 1",
]
Shares = Annotated[
    list[Annotated[float, Field(gt=0, lt=1)]],
    Field(min_length=1),
    AfterValidator(_ascending),
    "an ascending list of numbers between 0 and 1",
]
TableName = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$"), "a name of letters, digits and _"]
Device = Annotated[str, Field(pattern="^(cpu|cuda(:[0-9]+)?)$"), "cpu, cuda or cuda:N"]
Template = Annotated[str, Field(pattern=r"^([^{}]|\{label\})*\{label\}([^{}]|\{label\})*$"), "text with {label}"]
CaptionTemplate = Annotated[str, Field(pattern=r"^([^{}]*\{objects\}[^{}]*|none)$"), "text with {objects}, or none"]
Places = Annotated[Any, AfterValidator(_places), "a path, or a list of paths"]
Canvas = Annotated[Any, AfterValidator(_canvas), "a side, [width, height], or unit"]
ImageSize = Annotated[Any, AfterValidator(_image_size), "a side, [width, height], or mixed"]
Levels = Annotated[Any, AfterValidator(_levels), "a list of values of `key`, or a mapping of named levels"]
Hub = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$"), "OWNER/NAME"]
Revision = Annotated[str, Field(pattern="^[0-9a-f]{7,40}$"), "a commit"]
Url = Annotated[str, Field(pattern="^(https?|file)://"), "an address, http, https or file"]
Server = Annotated[str, Field(pattern="^https?://"), "an address, http or https"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$"), "64 hexadecimal digits"]
Md5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$"), "32 hexadecimal digits"]
BatchSize = Annotated[Any, AfterValidator(_images_or_auto), "an integer of at least 1, or auto"]


class Draw(Section):
    train: Count = Field(description="training pictures")
    val: Count = Field(description="validation pictures")
    seed: int = Field(description="of the drawing")


class Boxes(Section):
    min_area_frac: Share = Field(
        description="boxes that cover a smaller share of the canvas are left out (A17); GLIGEN's is 0.01"
    )
    max: Count = Field(description="at most so many boxes of an image, largest first (A16, A17); GLIGEN's is 30")
    drop_crowd: bool = Field(description="leave out boxes of crowds (A17)")


class Split(Section):
    train_fraction: float = Field(gt=0, lt=1, description="the paper's 80/20 split of train, by image id (A21)")
    seed: int = Field(description="of the hash that splits")


class Source(Section):
    urls: list[Url] = Field(min_length=1, description="addresses of the file; the later ones are mirrors")
    size: Count | None = Field(None, description="bytes")
    sha256: Sha256 | None = Field(
        None,
        description="of the file; this or `md5`, or addresses that hold a commit's full hash and, after it, the same path",
    )
    md5: Md5 | None = Field(None, description="of the file, where its publisher states no SHA-256")
    licence: str = Field(description="a name under `fetch.licences`")

    @property
    def identity(self) -> str | None:
        """What the file is, whichever mirror has it: its checksum, or a repository's full commit and the file's path there.

        None where it cannot be told: without a checksum every address has to hold the same commit and path.
        """
        if self.has_checksum:
            return self.sha256 or self.md5
        found = {match[1] if (match := re.search("/([0-9a-f]{40}/[^?#]+)", url)) else None for url in self.urls}
        return found.pop() if len(found) == 1 else None

    @property
    def has_checksum(self) -> bool:
        """Whether it is known what the file must be."""
        return bool(self.sha256 or self.md5)


class SetSource(Section):
    """A set of layouts from elsewhere: its reader and its place (docs/layouts.md)."""

    EXPLAINED: ClassVar[str] = "data.source"  # the one place of several where the documentation lists its keys

    reader: Text = Field(
        description="the format: a module of evaluation/datasets/readers, or any other module by its dotted name"
    )
    path: Places | None = Field(
        None, description="the set's file or folder, or several; null: fetched from `files`, or it is a fault"
    )
    files: dict[Text, Source] | None = Field(None, description="its files by name, to fetch where `path` is null")
    photos: FilePath | None = Field(
        None, description="folder of its photos; null: there are none, so no row `real`, and distances are dashes"
    )
    frame: Literal["squash", "letterbox", "center_crop"] | None = Field(
        None,
        description="how a photo is fitted to the canvas, so that its boxes hold; null: as the reader says. No box is moved",
    )
    captions: FilePath | None = Field(None, description="for a set without captions: a file of captions by id")
    template: CaptionTemplate | None = Field(
        None,
        description="for a set without captions: a text with {objects}; null: `a photo of {objects}`; none: refuse the set",
    )
    boxes: Literal["xyxy", "xywh"] | None = Field(
        None, description="the meaning of a box's four numbers, where the format leaves it open"
    )
    canvas: Canvas | None = Field(
        None,
        description="the size that box edges refer to, in pixels: a side, [width, height]; or unit, for edges from 0 to 1",
    )
    origin: Literal[0, 1] | None = Field(None, description="index of the first pixel, where the format leaves it open")
    min_area_frac: Share | None = Field(
        None, description="boxes that cover a smaller share of the canvas are left out; null: none is"
    )
    max_boxes: Count | None = Field(
        None, description="at most so many boxes of a layout, largest first; null: 30, as GLIGEN"
    )


class Images(Section):
    count: Count = Field(description="images used")


class TrainImages(Images):
    source: SetSource | None = Field(
        None,
        description="a set with photos on which aligned rows are trained and calibrated, with the keys of `data.source`,"
        " split by `data.split`; null: the data set or, without one, `data.source`",
    )


class TestSample(Section):
    source: SetSource | None = Field(
        None,
        description="the set of the test layouts, with the keys of `data.source`; null: `data.source` or, without"
        " it, the data set",
    )
    count: Count = Field(
        description="size of the sample of val, drawn without replacement (A20); of a source, its first layouts"
    )
    seed: int = Field(description="of the sample (A20)")
    require_boxes: bool = Field(description="leave out images without a box (A20)")


class WeightsSource(Source):
    sha256: Sha256 = Field(description="of the file")


class Data(Section):
    dataset: Text = Field("coco", description="where layouts come from: a module of evaluation/datasets")
    root: FilePath | None = Field(
        description="folder or file of the data set (`docs/layouts.md`), such as a folder in COCO 2014's layout; null: draw or"
        " fetch one"
    )
    draw: Draw | None = Field(description="draw a COCO of coloured shapes")
    files: dict[Text, Source] | None = Field(
        None, description="files of the data set to fetch where neither `root` nor `draw` is given"
    )
    source: SetSource | None = Field(
        None, description="a set that the test layouts are read from; null: the data set's own test split"
    )
    size: Count = Field(description="side of the canvas in pixels; the models' own")
    words: FilePath = Field(description="table of words by which captions name each category, for spans")
    caption: Literal["first", "random"] = Field(
        description="which of an image's five captions (A19): of the lowest annotation id, or by a hash of the ids"
    )
    resize: Literal["center_crop", "squash"] = Field(description="photo to canvas (A18)")
    exif: Literal["apply", "ignore"] = Field(
        description="photos that EXIF says are stored rotated or mirrored: upright, as viewers show them and most annotation"
        " tools draw on them, or as stored; a photo whose size then differs from its record is refused"
    )
    boxes: Boxes
    split: Split
    train: TrainImages
    heldout: Images
    test: TestSample
    val: Images | None = Field(
        None, description="images of val, the test sample first; for `evaluation.reference: full_val`"
    )
    shard_size: Count = Field(
        description="images a job; images do not depend on it. Large enough that loading the models is under 2 % of a job"
    )


class Model(Section):
    """A diffusers folder: your own by `path`, or by a bare text in the model's place; else a repository of the hub."""

    path: FilePath | None = Field(None, description="a folder of your own, with its SHA256SUMS; overrides the hub")
    hub: Hub | None = Field(None, description="repository on the hub")
    revision: Revision | None = Field(None, description="commit of the repository")
    licence: str | None = Field(None, description="a name under `fetch.licences`")
    text_of: FilePath | None = Field(
        None,
        description="instead of all these a folder of your own with `config.json` and `open_clip.safetensors`, an open_clip"
        " model such as one that scores, whose text encoder a rule writes in transformers' form, for `alignment.text.model`",
    )


class HubNetwork(Model):
    """A network of transformers in a repository of the hub: its configuration, tokenizer and weights at the top."""


class Architecture(Section):
    kind: Literal[
        "stable-diffusion",
        "gligen",
        "latent-diffusion",
        "clip",
        "inception",
        "detector",
        "dinov2",
        "grounding-dino",
        "owlv2",
    ] = Field(description="the architecture whose published parameter counts the loaded networks must have")
    random_seed: int | None = Field(None, description="write random weights of the kind with this seed")


class Fetch(Section):
    folder: MadePath = Field("downloads", description="where fetched files are kept")
    hub: Server = Field("https://huggingface.co", description="the hub, or a mirror of it")
    offline: bool = Field(False, description="fetch nothing: say what is missing")
    licences: dict[str, str] = Field({}, description="name of a licence: what it covers, and where its text is")
    accept: Annotated[list[str], Unique] = Field(
        [], description="names under `licences` that you have read and accept; nothing is fetched under another"
    )


class Extractor(Section):
    kind: Text = Field(
        description="the network and its preprocessing: a module of evaluation/networks, or any other module by its dotted name"
    )
    name: str = Field(description="what tables call it")
    path: FilePath | None = Field(
        None,
        description="your own file of weights, which must have the hash of `source` unless `sha256` is given; null: fetched"
        " from `source` or `hub`, or not needed by a module of your own",
    )
    params: dict[str, Any] = Field(
        {},
        description="fields of the module's `Params`; every detector's are keep, sure, overlap and most, and its own",
    )
    least: Count | None = Field(
        None,
        description="least number of samples, of a row and of `real`, for a distance by a further extractor; with fewer it is a"
        " dash; null: 2048",
    )
    model: FilePath | None = Field(None, description="open_clip's name of the network, or a file of its sizes")
    sha256: Sha256 | None = Field(None, description="of `path`; null: as SHA256SUMS beside it states")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the network's products; Frechet distances need float32. Features record it, and are not compared"
        " across precisions",
    )
    source: WeightsSource | None = Field(None, description="where the published file is")
    hub: Hub | None = Field(None, description="repository on the hub that holds the network, instead of `source`")
    revision: Revision | None = Field(None, description="commit of the repository")
    licence: str | None = Field(None, description="of the repository: a name under `fetch.licences`")


class Extractors(Section):
    # Besides those whose names have a meaning there may be others: of features, of detections, and judges.
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Extractor | None] = Field(init=False)

    frechet: Extractor = Field(description="features of the Frechet distances")
    clip: Extractor = Field(description="of the CLIP scores")
    frechet_legacy: Extractor | None = Field(
        None, description="of a second Frechet distance, resized as pytorch-fid does; `reproduce` has both"
    )
    cmmd: Extractor | None = Field(None, description="of CMMD")
    detector: Extractor | None = Field(None, description="of layout adherence")

    def given(self) -> list[tuple[str, Extractor]]:
        """Those that are not null, by their keys."""
        return [(name, one) for name, one in self if one is not None]


class OwnMetric(Section):
    module: str = Field(description="Python module with `Params` and `metrics`")
    params: dict[str, Any] = Field({}, description="fields of the module's `Params`")
    version: int = Field(1, description="raise it when the module's numbers change: that reruns the measurement")


class Regions(Section):
    min_side: Count = Field(
        description="regions whose shorter side is below this are not scored; in pixels of the canvas (A34), for"
        " `python -m evaluation` of each real image"
    )
    label_template: Template = Field(description="the text a region is compared with (A35)")
    max_per_image: Count | None = Field(
        description="at most so many regions of an image, largest first (A34); null: all"
    )
    resize: Literal["squash", "short_side_center_crop"] = Field(
        description="how a region becomes the network's square input (A34)"
    )
    pad: Literal["none", "mean"] = Field(description="pad the region to a square with its mean colour beforehand (A34)")


class Evaluation(Section):
    resolution: Count | None = Field(
        description="side in pixels to which whole images are resized, bicubically, before the Frechet networks see them"
        " (A32); null: not resized; GLIGEN's is 256. Regions are cut from the image at its own size"
    )
    reference: Literal["same_ids", "full_val"] = Field(
        description="the photos that distances refer to (A33): those of the test layouts, or `data.val.count` images of val"
    )


class Difficulty(Section):
    objects: Edges = Field(description="numbers of objects at which a band begins, the first one from 0")
    size: Shares = Field(
        description="edges between sizes of a box, the root of its area as a share of the canvas's side; 0.0625 and 0.1875 are"
        " COCO's 32 and 96 px of 512"
    )
    overlap: Shares = Field(
        description="edges between largest overlaps of a layout, intersection over union; no overlap is a band of its own"
    )
    tag_values: Count = Field(description="a tag with more values than this is not broken down")
    least: int = Field(ge=2, description="least number of images in a band; with fewer its means are dashes")


class Sampling(Section):
    steps: int = Field(ge=1, le=999, description="solver steps; PLMS makes one network call more")
    guidance_scale: float = Field(description="of classifier-free guidance (A23)")
    scheduler: Literal["pndm", "ddim", "lms", "own"] = Field(
        description="the solver; pndm is PLMS; own is the solver of a pipeline's folder, for rows of `baselines.pipeline`"
    )
    negative_prompt: str = Field(description="(A24)")
    seed: int = Field(description="an image's noise depends on it and the layout's id alone (A40)")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="of the weights and products of U-Net and decoder (A42), and of the alignment module's products;"
        " text, boxes, attention maps, losses and the solver stay float32",
    )


class TargetText(Section):
    model: str = Field(
        description="the text encoder f^T of losses (6) and (7), in training and in sampling (A12, A13): `backbone`, that of"
        " `alignment.base`, or a key of `models`, an ablation"
    )
    feature: Literal["pooled", "projected"] = Field(
        description="which of its outputs (A12): the end-of-text state, or CLIP's `text_projection` of it"
    )


class AlignmentModel(Section):
    patch: Count = Field(description="latent cells a side of one token")
    width: Count = Field(description="of the vision transformer, pre-norm")
    blocks: Count = Field(description="of the transformer")
    heads: Count = Field(description="of the transformer; divides the width")
    mlp_ratio: Count = Field(description="of the transformer")
    box_feature: Literal["fourier_mask", "mask", "fourier_mlp", "fourier_literal"] = Field(
        description="B (A3); fourier_mask is mask x (1 + MLP(Fourier))"
    )
    pool: Literal["grid_mean", "area_mean"] = Field(
        description="mean pooling divides by all cells, or by the box's (A5)"
    )
    time_conditioning: Literal["none", "add"] = Field(description="whether the transformer is given t (A9)")
    center: bool = Field(description="subtract the mean embedding from the targets (A14)")
    label_template: Template = Field(description="text of a box's target (A15)")


class NoiseTraining(Section):
    steps: Count = Field(description="optimiser steps; in the paper 60 epochs, in batches of 1024")
    batch: Count = Field(description="images an optimiser step")
    micro_batch: Count = Field(description="as `alignment.train.micro_batch`")
    lr: Positive = Field(description="of the U-Net's parameters; GLIGEN's")
    optimizer: Literal["adam", "adamw"] = Field(
        description="of the U-Net's parameters; with `second_order` the module keeps its own, with its `lr` and `weight_decay`"
    )
    weight_decay: NotNegative = Field(
        description="of the U-Net's parameters; GLIGEN's 0: the paper's 5e-4 is for a module that starts from nothing"
    )
    caption_dropout: Share = Field(
        description="share of the images trained with the empty caption; 0.1 as GLIGEN's paper says, where its"
        " published configuration has 0.5"
    )
    grounding_dropout: Share = Field(description="share of the images trained with null tokens for boxes")
    relative_step: Positive = Field(
        description="as `alignment.calibrate.relative_step`, for the eta of update (8) in training"
    )
    validate_every: Count = Field(description="optimiser steps between validations and checkpoints")
    validate_images: Count | None = Field(
        description="held-out images at each validation, five passes of the U-Net each; null: all"
    )


class AlignmentTraining(Section):
    epochs: Count = Field(description="passes over the training images")
    batch: Count = Field(description="images an optimiser step")
    micro_batch: Count = Field(
        description="images a backward pass, to fit memory (A31): changing it reruns nothing. `batch / micro_batch` must be at"
        " least the number of processes"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the module's products; weights, optimiser, losses and validation stay float32"
    )
    lr: Positive = Field(description="learning rate")
    weight_decay: NotNegative = Field(description="L2 under adam, decoupled under adamw")
    optimizer: Literal["adam", "adamw"] = Field(description="(A30)")
    lambda_global: NotNegative = Field(description="weight of loss (6)")
    lambda_local: NotNegative = Field(description="weight of loss (7)")
    caption: Literal["random", "first"] = Field(description="which caption of an image each time (A22)")
    validate_every: Count = Field(description="optimiser steps between validations and checkpoints")
    validate_images: Count | None = Field(
        description="number of held-out images, from the first, by which the best checkpoint is chosen; null: all"
    )
    seed: int = Field(description="of the order, the noise, t and the captions")
    objective: Literal["align", "align+noise"] = Field(
        description="losses (6) and (7) alone, or followed by training on the noise loss of Algorithm 1 (A6)"
    )
    train_denoiser: Literal["none", "fuser", "unet"] = Field(
        description="what the noise loss trains of the U-Net (A6): nothing, the layers GLIGEN added, or all"
    )
    second_order: bool = Field(
        description="the noise loss reaches the alignment module through Z^(a) (A7): twice the backward pass"
    )
    denoiser: NoiseTraining


class Calibration(Section):
    relative_step: Positive = Field(
        description="median length of an update with the calibrated eta, as a share of the latent's norm (A1)"
    )
    count: Count = Field(description="number of noised held-out latents for that median")
    images: Count | None = Field(
        None,
        description="number of held-out layouts, from the first, on which the multiples are sampled; null: all."
        " They have shards of their own: another number makes the layouts, and with them everything, again",
    )
    multiples: Annotated[list[Positive], Unique] = Field(
        min_length=1, description="multiples of the calibrated eta, of which the held-out scores choose one"
    )


class Alignment(Section):
    base: str = Field(
        description="key of `models` whose autoencoder encodes the training photos and whose text encoder gives the targets"
    )
    method: str = Field(description="the row whose eta is calibrated")
    reference: str = Field(description="the row that its candidates are compared with")
    text: TargetText
    model: AlignmentModel
    train: AlignmentTraining
    calibrate: Calibration


class Method(Section):
    """A row: a module that samples its images, or images that other code made, or a row of another run's bundle."""

    like: str | None = Field(None, description="another row, whose keys but the label hold where this one states none")
    module: str = Field("", description="Python module with `Params` and `generate`; needs `base`")
    base: str = Field("", description="key of `models` (A38)")
    label: str | None = Field(None, description="name of the row in tables and figures; null: as in published.csv")
    version: int = Field(
        1,
        description="of a module: raise it when the module's images change: that reruns the row, and of `alignment.method` also"
        " the calibration and the training on the noise loss",
    )
    images: Places | None = Field(
        None,
        description="instead of a module: folder or zip of images that other code made, of all test layouts; several are"
        " several seeds, of which tables show the first (docs/methods.md)",
    )
    made_by: Text | None = Field(
        None, description="of images: the code, its commit, its seed; tables, figures and page name it"
    )
    pattern: Text | None = Field(
        None,
        description="of images: the pattern of file names, with the layout's {id}, {source_id}, {image_id}, {index} (from 0) or"
        " {number} (from 1), in any zero padding or as {id:06d}, and * for any text; null: {id}.png",
    )
    names: FilePath | None = Field(
        None, description="of images: instead of a pattern, a CSV with the column `file` and one such as `id`"
    )
    size: ImageSize | None = Field(
        None, description="of images: the size they must have; null: any, but the same for all; mixed: sizes may differ"
    )
    surplus: Literal["refuse", "pass_over"] | None = Field(
        None, description="of images: whether files of no layout are refused or passed over; null: refuse"
    )
    bundle: FilePath | None = Field(
        None,
        description="instead of a module: a bundle of another run, from which the row `row` is taken: by its images where the"
        " bundle has them, else by its summary, if layouts, networks and protocol are the same",
    )
    row: RowName | None = Field(None, description="of a bundle: the row that is taken; null: the one of this name")
    crops: Literal["layout", "detected"] = Field(
        "layout",
        description="where regions are cut from the row's test images: at the layout's boxes, or where `extractors.detector`"
        " finds their objects, and at the layout's box where it does not (A36). For a row whose name ends with _detected",
    )
    source: str = Field(
        "", description="where the values of the module's other parameters are from, printed under the tables"
    )
    artefacts: dict[ArtefactName, Text] = Field(
        {},
        description="files that the module loads beside the model, by name: relative to `results/{run}`, or your own by an"
        " absolute path",
    )
    params: dict[str, Any] = Field({}, description="fields of the module's `Params`")
    sampling: dict[str, Any] = Field({}, description="keys of `sampling` that this row overrides")

    @property
    def is_sampled(self) -> bool:
        """Whether the run makes the row's images itself."""
        return self.images is None and self.bundle is None

    @property
    def is_aligned(self) -> bool:
        """Whether the row loads the alignment module that the run trains; not so with a module of the user's own."""
        return Path(self.artefacts.get("alignment", "")) == Path(Paths(".").train("").alignment)

    @property
    def takes_eta(self) -> bool:
        """Whether the row loads the eta that the run chooses."""
        return Path(Paths(".").train("").calibration) in map(Path, self.artefacts.values())

    @property
    def places(self) -> list[str]:
        """Folders and zips of images that other code made, one a seed."""
        return [self.images] if isinstance(self.images, str) else list(self.images or [])

    @property
    def picture_size(self) -> tuple[int, int] | Literal["mixed"] | None:
        """`size` as width and height."""
        if self.size is None or self.size == "mixed":
            return self.size
        width, height = (self.size, self.size) if isinstance(self.size, int) else self.size
        return width, height


class Level(Section):
    """What a named level of a study's factor overrides in the base."""

    params: dict[str, Any] = Field({}, description="fields of the base's `params`")
    sampling: dict[str, Any] = Field({}, description="keys of `sampling`")
    alignment: dict[str, Any] = Field(
        {}, description="keys of the section `alignment`, below its text, model and train; each is trained for itself"
    )


class Factor(Section):
    levels: Levels = Field(
        description="values of `key`; or named levels, each with some of `params`, `sampling` and `alignment`, written as in an"
        " overlay. The base's own value is not listed"
    )
    key: Text | None = Field(
        None, description="the key that a list of values is of, such as `params.tau` or `alignment.model.pool`"
    )
    sampling_only: bool = Field(
        False,
        description="the levels change nothing that is trained, calibrated or chosen: module, denoiser and eta are those of the"
        " row without them. Else an aligned row's eta is calibrated and chosen on held-out data for each level",
    )
    repeated: bool = Field(True, description="whether its rows are made with every training seed")


class Study(Section):
    base: str = Field(description="the row that levels are compared with, a key of `methods`")
    factors: dict[RowName, Factor] = Field(min_length=1, description="what is changed, each level by itself")
    pairs: list[Annotated[list[str], Field(min_length=2, max_length=2), "two names, FACTOR or FACTOR.LEVEL"]] = Field(
        [],
        description="two factors whose levels are also combined, each with each; FACTOR.LEVEL: that level alone. A combination"
        " is also compared with each of its two levels",
    )
    against: Annotated[list[str], Unique] = Field(
        [], description="further rows that every reading is compared with, keys of `methods`"
    )
    metrics: Annotated[list[str], Unique] = Field(
        [], description="what is compared, as metrics files name it; empty: the metrics of the paper's tables"
    )
    training_seeds: Annotated[list[int], Unique] = Field(
        [],
        description="`alignment.train.seed`, and after it seeds with which all that is trained is trained again: differences"
        " are tested with the first, and their spread over all stands beside them. Eta is calibrated for each, its multiple"
        " chosen with the first",
    )


class RuleResources(Section):
    mem_mb: Count | None = Field(None, description="memory in MB that a job of this rule requests")
    runtime: Count | None = Field(None, description="minutes that a job of this rule requests")


# Those whose jobs ask a cluster for more than the least.
Rule = Literal[
    "bundle",
    "cache_latents",
    "check_device",
    "compare_rows",
    "count_parameters",
    "cut_strips",
    "detect_regions",
    "extract_features",
    "measure",
    "measure_by_size",
    "pilot",
    "sample",
    "summarize",
    "swap_images",
    "tabulate_study",
    "train_alignment",
    "train_denoiser",
    "write_random_weights",
]


class Resources(Section):
    batch_size: BatchSize = Field(
        description="images at a time; auto: on a GPU the largest power of two up to 64 that takes at most 0.8 of the free"
        " memory, 8 elsewhere. One that runs out of memory is halved for the rest of its shard"
    )
    compile: bool = Field(
        False,
        description="`torch.compile` of the U-Net for the job's batch size: a minute a job, 1.4 times the speed on an H100",
    )
    channels_last: bool = Field(False, description="channels-last memory layout of the U-Net")
    threads: Count = Field(description="CPU threads of a job")
    gpu: int = Field(ge=0, description="GPUs of a job that samples, encodes or trains")
    evaluation_device: Device | None = Field(
        None,
        description="`device` for features and detections, whose jobs ask for one GPU unless it is cpu; null: as"
        " `device`",
    )
    evaluation_threads: Count | None = Field(
        None,
        description="CPU threads of a job that extracts features; with a GPU, processes that read and resize images; null:"
        " as `threads`",
    )
    device: Device = Field(
        description="cuda: the first GPU that no other job of this harness holds; cuda:N: that one, held or not"
    )
    mem_mb: Count = Field(
        description="memory in MB that a job requests from a cluster, times the number of the attempt"
    )
    runtime: Count = Field(description="minutes that a job requests from a cluster, times the number of the attempt")
    rules: dict[Rule, RuleResources] = Field({}, description="memory and time of single rules")
    encode_shards: Count = Field(
        20, description="shards that one job encodes into one file of latents: another number encodes and trains again"
    )
    train_gpu: Count | None = Field(None, description="GPUs of a training, on all its nodes together; null: `gpu`")
    train_launcher: Text | None = Field(
        None,
        description="command before `-m hcma.train` and `-m hcma.train_denoiser`; null: accelerate's, on several GPUs",
    )


class TableStanza(Section):
    """A table of rows and metrics; a list in the stanza's place names its rows alone."""

    rows: Annotated[list[str], Field(min_length=1), Unique] | None = Field(
        None, description="in order: keys of `methods`, and `real`; null: those of the other tables"
    )
    columns: Annotated[list[str], Field(min_length=1), Unique] | None = Field(
        None,
        description="metrics, in order (docs/metrics.md); null: the paper's four, and of a table with `by` all that are means"
        " over images, boxes or labels",
    )
    caption: Line | None = Field(None, description="the title; null: the table's name")
    by: Annotated[list[FacetName], Field(min_length=1), Unique] | None = Field(
        None,
        description="break the rows down by difficulty: `objects`, `size`, `overlap`, `tags` (each that has few values) or"
        " `tags.NAME`, with the bands of `difficulty`, a figure of the table's name, and tests against the last of"
        " `compare_with`",
    )


class Pretrain(Section):
    work: MadePath = Field(description="folder of the stages' intermediate files")
    out: FilePath = Field(description="folder of the weights")
    steps: Annotated[int, Field(ge=200)] | None = Field(
        description="optimiser steps of every stage; null: each stage's own. A small number tries the whole chain"
    )
    scenes: int = Field(ge=250, multiple_of=250, description="scenes drawn for the diffusion stages")
    device: Device = Field(description="of the stages")


class Settings(Section):
    """The whole configuration."""

    scale: str = Field(
        description="the overlay of `workflow/config/` that is merged onto base.yaml, before those of the command line"
    )
    run: Run = Field(description="results lie in `results/{run}/`")
    caveat: str = Field("", description="a sentence printed with every table")
    reference: FilePath | None = Field(
        None,
        description="recorded metrics that `snakemake regress` compares with; null: `results/reference/{run}.json`",
    )
    first: RunOrBundle | None = Field(None, description="of `snakemake compare`: a folder of `results/`, or a bundle")
    second: RunOrBundle | None = Field(None, description="of `snakemake compare`: the other one")
    reproduced: RunOrBundle | None = Field(
        None, description="of `snakemake reproduce`: a folder of `results/`, or a bundle; null: this run"
    )
    bundle_images: bool = Field(False, description="of `snakemake bundle`: with the images of all rows")
    seeds: Annotated[list[int], Unique] = Field(
        [],
        description="`sampling.seed`, followed by further seeds with which every row is sampled again: the tables show the"
        " first, `tables/seeds.*` mean, standard deviation, least and most of every metric",
    )
    data: Data
    models: dict[ModelName, Annotated[Model | None, BeforeValidator(_folder), "a folder or a mapping, or null"]] = (
        Field(description="null: not available; its rows show their published values")
    )
    architectures: dict[RowName, Architecture] = Field(
        {}, description="the architectures that models must have, by the model's key"
    )
    fetch: Fetch | None = Field(None, description="needed where something is fetched")
    extractors: Extractors
    metrics: dict[RowName, Annotated[OwnMetric | None, "a mapping, or null"]] = Field(
        {}, description="metrics of your own, by name, beside those of every run; null switches one off"
    )
    regions: Regions
    evaluation: Evaluation
    sampling: Sampling
    alignment: Alignment
    methods: dict[RowName, Method] = Field(description="the rows, by name")
    tables: dict[TableName, Annotated[TableStanza, BeforeValidator(_rows), "a mapping, or a list of rows"]] = Field(
        description="the tables; a list in the place of a mapping is of its `rows`"
    )
    compare_with: Annotated[list[str], Field(min_length=1), Unique] = Field(
        description="rows that every other row is compared with in the table of significance, where they are rows of a table:"
        " † marks what cannot be told from the first, tables by difficulty test against the last, and the page opens with the"
        " first two side by side"
    )
    difficulty: Difficulty
    study: Study | None = Field(None, description="what `snakemake study` compares (docs/study.md); null: nothing")
    pretrain: Pretrain
    resources: Resources

    @property
    def aligns(self) -> bool:
        """Whether a row of the tables or of the study loads the module that is trained here, or the eta that is chosen."""
        named = [row for table in self.tables.values() for row in table.rows or []]
        studied = [self.study.base, *self.study.against] if self.study else []
        rows = [self.methods[row] for row in [*named, *studied] if row in self.methods]
        return any((row.is_aligned or row.takes_eta) and self.models.get(row.base) is not None for row in rows)


def read(
    config: dict[str, Any],
    files: Sequence[Path],
    over: Sequence[Path] = (),
    given: dict[str, Any] | None = None,
) -> Settings:
    """The settings that a merged configuration makes; raises SettingsError, whose lines name key and source.

    It was merged as Snakemake does: `files`, which the Snakefile names, and over them what `over`, the files of the command
    line, and `given`, its single values, make together; later ones win.
    """
    if found := merge_faults(config):
        raise SettingsError(blamed(found, config, files, over, given))
    if lines := stacked_sets(over) + vain_nulls(config, over, given, {"extractors": Extractors.model_fields}):
        raise SettingsError(lines)
    try:
        settings = Settings.model_validate(resolved(config))
        found = list(contradictions(settings))
    except ValidationError as error:
        found = list(explained(Settings, error))
    if found:
        raise SettingsError(blamed(found, config, files, over, given))
    return settings
