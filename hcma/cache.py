r"""Encode what the alignment module trains on, once: latents of photos, text features of captions and labels.

    python -m hcma.cache --model weights/miniature/gligen --layouts layouts/train/0000.jsonl layouts/train/0001.jsonl \
        --images samples/real/train/0000.zip samples/real/train/0001.zip --out train/latents/train/0000.safetensors

A split may lie in several such files; `read_cache` takes them together, each checked against its own SHA-256.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from formats.cli import options, quick_imports, run
from formats.files import InputError, replacing
from formats.images import read_images
from formats.layouts import Layout, read_layouts

# Heavy imports stand inside the functions: `--help` should answer at once.
if TYPE_CHECKING:
    import torch

    from hcma.sampling.diffusion import Diffusion
    from hcma.sampling.text import TextFeatures
    from hcma.shards import Sharded

CAPTIONS = 5
BATCH = 32
PIXELS = 2**20  # of the photos encoded at a time: the encoder's activations take 0.7 GB for one of 512 px


@dataclass(frozen=True)
class Cache:
    """Tensors of one split; rows are images, in file order.

    ids_N            of their layouts
    latents_NCHW     scaled posterior means, float16, left in their files until they are asked for
    captions_NKD     text features of up to five captions, and counts_N how many there are
    boxes_NM4, labels_NM   boxes in the unit square, and rows of texts_LD (-1: no box)
    texts_LD, names  text features of the labels, and the labels
    alphas_cumprod_T the noise schedule
    """

    ids_N: "torch.Tensor"
    latents_NCHW: "Sharded"
    captions_NKD: "torch.Tensor"
    counts_N: "torch.Tensor"
    boxes_NM4: "torch.Tensor"
    labels_NM: "torch.Tensor"
    texts_LD: "torch.Tensor"
    alphas_cumprod_T: "torch.Tensor"
    names: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="diffusers folder whose VAE and text encoder encode")
    parser.add_argument("--layouts", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="zips of photos, one for each layouts file"
    )
    parser.add_argument("--label-template", default="{label}")
    parser.add_argument(
        "--text", type=Path, help="folder of another text encoder for the features; default: the model's"
    )
    parser.add_argument("--text-feature", choices=("pooled", "projected"), default="pooled", help="of --text")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    shards = [read_layouts(path) for path in args.layouts]
    if len(shards) != len(args.images):
        raise InputError(f"--images: {len(args.images)} zips for {len(shards)} layouts files")
    with quick_imports():
        from formats.device import take_device
        from hcma.sampling.diffusion import Sampling, load_diffusion
        from hcma.sampling.loading import quiet_loading

        quiet_loading()
        sd = load_diffusion(args.model, Sampling(), take_device(args.device))
        from hcma.sampling.text import load_text_features

    encoder = load_text_features(args.text, args.text_feature, sd.device) if args.text else None
    latents = _latents(sd, shards, args.images)
    layouts = [layout for shard in shards for layout in shard]
    write_cache(latents, layouts, sd, args.label_template, args.out, encoder)


def _latents(sd: "Diffusion", shards: Sequence[Sequence[Layout]], zips: Sequence[Path]) -> "torch.Tensor":
    import torch
    from tqdm import tqdm

    total = sum(map(len, shards))
    batch = photos_at_a_time(sd.size)
    parts, waiting = [], []
    with tqdm(total=total, desc="encoding photos", unit="image", mininterval=1) as bar:
        for layouts, path in zip(shards, zips, strict=True):
            for id, image in read_images(path, [layout.id for layout in layouts]):
                if image.shape != (sd.size, sd.size, 3):
                    raise InputError(f"{path}: image {id} is {image.shape[1]}x{image.shape[0]}, expected {sd.size} px")
                waiting.append(image)
                bar.update()
                if len(waiting) == batch or bar.n == total:
                    parts.append(encode_images(sd, np.stack(waiting)).half())
                    waiting.clear()
    return torch.cat(parts)


def photos_at_a_time(size: int) -> int:
    """How many photos of `size` pixels a side are encoded together: at most BATCH, and no more than PIXELS in all."""
    return max(1, min(BATCH, PIXELS // size**2))


def encode_images(sd: "Diffusion", images_BHW3: np.ndarray) -> "torch.Tensor":
    """Scaled posterior means latents_BCHW of uint8 images, on the CPU in float32."""
    import torch

    pixels = torch.from_numpy(images_BHW3).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        return (sd.vae.encode(pixels.to(sd.device)).latent_dist.mean * sd.vae.config.scaling_factor).cpu()


def write_cache(
    latents_NCHW: "torch.Tensor",
    layouts: Sequence[Layout],
    sd: "Diffusion",
    template: str,
    out: Path,
    encoder: "TextFeatures | None" = None,
) -> None:
    """Encode the layouts' texts, by the model's own encoder unless another is given, and write everything as one safetensors
    file, whole or not at all."""
    import torch
    from safetensors.torch import save_file

    from hcma.sampling.diffusion import encode_text, make_scheduler
    from hcma.sampling.grounding import SLOTS, largest
    from hcma.shards import digest

    said = [captions_of(layout) for layout in layouts]
    names = sorted({thing.phrase for layout in layouts for thing in layout.objects})
    encode = encoder or (lambda texts: encode_text(sd, texts)[1])
    features = _text_features(encode, sorted({text for texts in said for text in texts}))
    boxes = torch.zeros(len(layouts), SLOTS, 4)
    labels = torch.full((len(layouts), SLOTS), -1, dtype=torch.int32)
    captions = torch.zeros(len(layouts), CAPTIONS, len(features[said[0][0]]))
    for row, (layout, texts) in enumerate(zip(layouts, said, strict=True)):
        captions[row, : len(texts)] = torch.stack([features[text] for text in texts])
        for slot, thing in enumerate(largest(layout.objects)):
            boxes[row, slot], labels[row, slot] = torch.tensor(thing.box), names.index(thing.phrase)
    label_features = _text_features(encode, [template.format(label=name) for name in names])
    tensors = {
        "ids_N": torch.tensor([layout.id for layout in layouts]),
        "latents_NCHW": latents_NCHW,
        "captions_NKD": captions,
        "counts_N": torch.tensor([len(texts) for texts in said], dtype=torch.int32),
        "boxes_NM4": boxes,
        "labels_NM": labels,
        "texts_LD": torch.stack(list(label_features.values())) if names else captions[0, :0],
        "alphas_cumprod_T": make_scheduler(sd).alphas_cumprod.float(),
    }
    described = {"names": json.dumps(names), "sha256": digest(tensors)}
    with replacing(out) as beside:
        save_file({name: value.contiguous() for name, value in tensors.items()}, beside, described)


def captions_of(layout: Layout) -> list[str]:
    """The captions of an image that training may draw, in the cache's order."""
    return list(layout.captions or (layout.caption,))[:CAPTIONS]


def _text_features(
    encode: "Callable[[Sequence[str]], torch.Tensor]", texts: Sequence[str]
) -> "dict[str, torch.Tensor]":
    """Features of targets by text, float32 on the CPU."""
    rows = [row for start in range(0, len(texts), BATCH) for row in encode(texts[start : start + BATCH]).cpu()]
    return dict(zip(texts, rows, strict=True))


def read_cache(paths: Sequence[Path]) -> Cache:
    """The images of some cache files, one file after the other; raises InputError naming one that is not whole or another's."""
    import torch

    from hcma.shards import Sharded

    files = {path: _read(path) for path in paths}
    parts = [tensors for tensors, _ in files.values()]
    for path, (tensors, _) in files.items():
        if not _same_model(tensors, parts[0]):
            raise InputError(f"{path}: encoded by another model than {paths[0]}; delete it and run again")
    ids_N = torch.cat([tensors["ids_N"] for tensors in parts])
    if len(ids_N.unique()) < len(ids_N):
        raise InputError(f"{paths[0]} and the files given with it: an image occurs twice; each must be given once")
    names = tuple(sorted({name for _, own in files.values() for name in own}))
    texts = {name: row for tensors, own in files.values() for name, row in zip(own, tensors["texts_LD"], strict=True)}
    return Cache(
        ids_N=ids_N,
        latents_NCHW=Sharded([tensors["latents_NCHW"] for tensors in parts]),
        captions_NKD=torch.cat([tensors["captions_NKD"] for tensors in parts]),
        counts_N=torch.cat([tensors["counts_N"] for tensors in parts]),
        boxes_NM4=torch.cat([tensors["boxes_NM4"] for tensors in parts]),
        labels_NM=torch.cat([_renumbered(tensors["labels_NM"], own, names) for tensors, own in files.values()]),
        texts_LD=torch.stack([texts[name] for name in names]) if names else parts[0]["texts_LD"],
        alphas_cumprod_T=parts[0]["alphas_cumprod_T"],
        names=names,
    )


def _same_model(one: "dict[str, torch.Tensor]", other: "dict[str, torch.Tensor]") -> bool:
    """Do two files agree in the noise schedule and in the sizes of latents and text features?"""
    sized = ("latents_NCHW", "captions_NKD")
    schedules = one["alphas_cumprod_T"], other["alphas_cumprod_T"]
    return schedules[0].equal(schedules[1]) and all(one[name].shape[1:] == other[name].shape[1:] for name in sized)


def _renumbered(labels_NM: "torch.Tensor", own: Sequence[str], names: Sequence[str]) -> "torch.Tensor":
    """Rows of `own` names as rows of all `names`; -1 stays."""
    import torch

    return torch.tensor([*(names.index(name) for name in own), -1], dtype=torch.int32)[labels_NM.long()]


def _read(path: Path) -> "tuple[dict[str, torch.Tensor], list[str]]":
    """The tensors of one cache file, mapped, and its labels' names."""
    from safetensors import SafetensorError, safe_open

    from hcma.shards import digest

    try:
        with safe_open(path, "pt") as file:
            tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            described = file.metadata()
            names, stated = json.loads(described["names"]), described["sha256"]
    except (SafetensorError, KeyError, TypeError, FileNotFoundError) as error:
        raise InputError(f"{path}: not a whole cache of latents ({error}); delete it and run again") from None
    if (found := digest(tensors)) != stated:
        raise InputError(
            f"{path}: SHA-256 {found[:12]}... of its tensors, expected {stated[:12]}...; delete it and run again"
        )
    return tensors, names


if __name__ == "__main__":
    run(main)
