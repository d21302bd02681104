"""What the features of a table cost against the libraries they come from: one process each, the same images and weights.

`compare`, a part of `make bench`, starts two processes of this, one a side. A table of two rows and `real`, at both levels:

    ours    evaluation.features on the three folders, which cuts the crops itself
    theirs  clean-fid's feature loop on image and crop folders, found and real for each row, as its compute_fid has it; then
            transformers' CLIP over all folders and their texts, batch by batch, as torchmetrics' CLIPScore has it

Inception V3 and CLIP ViT-B/32 at full size, random weights. Both are timed from loaded networks to features on disk.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from evaluation.crops import crop, kept_boxes
from evaluation.networks import BATCH
from evaluation.regions import regions
from workflow.benchmarks.rounds import ROUNDS, stated, take_turns

if TYPE_CHECKING:
    import torch
    from transformers import CLIPModel

IMAGES, REGIONS, SIDE = 16, 2, 512
ROWS = ("real", "one", "two")
LABELS = ("dog", "red kite")
CLIP = "ViT-B-32-quickgelu"


def main(side: str, folder: Path, out: Path, images: int) -> None:
    """Take one side's features of images that are there, write them, and print what that took."""
    arrays, spent = {"ours": ours, "theirs": theirs}[side](folder, images)
    np.savez(out, **arrays, allow_pickle=False)
    print(json.dumps(spent | {"peak_megabytes": peak_megabytes()}))


def peak_megabytes() -> float:
    """The most memory this process held, on Linux; getrusage's maximum would be its parent's where that held more."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def compare(rounds: int = ROUNDS, images: int = IMAGES) -> dict[str, Any]:
    """Seconds and peak memory of both, their ratios, and the largest differences between the two sides' numbers.

    `ratio` is that of the quickest rounds' wall times; the other numbers are those of the same rounds.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_world(folder, images)
        turns = take_turns({side: partial(_run, side, folder, images) for side in ("ours", "theirs")}, rounds)
        found, expected = (dict(np.load(folder / f"{side}.npz")) for side in ("ours", "theirs"))
    spent = {side: min(found, key=lambda turn: turn.seconds).result for side, found in turns.items()}
    rows: dict[str, Any] = {f"{side}_{key}": value for side, values in spent.items() for key, value in values.items()}
    rows["ratio"] = spent["theirs"]["seconds"] / spent["ours"]["seconds"]
    for name in ("cpu_seconds", "peak_megabytes"):
        rows[f"{name}_ratio"] = spent["theirs"][name] / spent["ours"][name]
    for kind in ("frechet", "clip"):
        gaps = [np.abs(found[key] - expected[key]).max() for key in expected if key.endswith(kind)]
        rows[f"largest_difference_of_{kind}"] = float(max(gaps))
    spread = [expected[key].std(0).mean() for key in expected if key.endswith("frechet")]
    return rows | {"spread_of_frechet": float(np.mean(spread))} | stated(turns)


def _run(side: str, folder: Path, images: int) -> tuple[float, dict[str, float]]:
    words = ["--side", side, "--folder", str(folder), "--images", str(images), "--out", str(folder / f"{side}.npz")]
    command = [sys.executable, "-W", "ignore", "-m", "workflow.benchmarks", "features", *words]
    spent = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    return spent["seconds"], spent


def write_world(folder: Path, images: int) -> None:
    """Weights, and of each row its images; for the libraries also CLIP as transformers keeps it, and the crops."""
    import open_clip

    from evaluation.networks.open_clip import OPENAI_NUMBERS
    from evaluation.weight_files import read_weights
    from workflow.random_weights.architecture import read_architecture
    from workflow.random_weights.folder import write_folder

    for name in ("inception", "clip"):
        write_folder(name, 0, folder / name)
    like = read_architecture("clip").components["."].build().state_dict()
    state = dict(read_weights(_weights(folder, "clip"), CLIP, like, OPENAI_NUMBERS))
    as_transformers(state, open_clip.get_model_config(CLIP)).save_pretrained(folder / "transformers")
    boxes = kept_boxes(layouts(images), regions(layouts(images), SIDE, 1))
    for seed, row in enumerate(ROWS):
        (folder / row).mkdir()
        (folder / f"{row}-crops").mkdir()
        rng = np.random.default_rng(seed)
        for number in range(images):
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
            picture = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            picture.save(folder / row / f"{number:012d}.png")
            for place, box in boxes[number]:
                path = folder / f"{row}-crops" / f"{number:012d}-{place:02d}.png"
                Image.fromarray(crop(np.asarray(picture), box)).save(path)


def layouts(images: int) -> list[dict[str, Any]]:
    """Captions of a dozen words and boxes of some 200 pixels, the same for all rows."""
    rng = np.random.default_rng(99)
    rows = []
    for number in range(images):
        corners = rng.uniform(0, 0.5, (REGIONS, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(0.3, 0.5, (REGIONS, 2))], axis=1).round(6).tolist()
        things = [{"phrase": label, "box": box} for label, box in zip(LABELS, boxes, strict=True)]
        caption = f"a dog looks at a red kite above the wet roofs of street {number}"
        rows.append({"id": number, "image_id": number, "caption": caption, "objects": things})
    return rows


def _timed(wall: float, cpu: float) -> dict[str, float]:
    """Seconds since both clocks stood so."""
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def ours(folder: Path, images: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Features and CLIP cosines of every row and level, by the evaluation."""
    from evaluation.feature_files import FeatureShards
    from evaluation.features import load_networks, write_features
    from evaluation.metrics.summary import cosine
    from evaluation.protocol import Protocol

    stanzas = {
        "frechet": {"kind": "inception_clean", "name": "i", "path": str(_weights(folder, "inception"))},
        "clip": {"kind": "open_clip", "name": "c", "model": CLIP, "path": str(_weights(folder, "clip"))},
    }
    networks = load_networks(stanzas)
    rows = layouts(images)
    table = regions(rows, SIDE, 1)
    started = time.perf_counter(), time.process_time()
    for row in ROWS:
        write_features(folder / row, rows, table, networks, Protocol(), folder / f"{row}.npz")
    spent, arrays = _timed(*started), {}
    for row in ROWS:
        shards = FeatureShards([folder / f"{row}.npz"])
        for level in ("image", "region"):
            arrays[f"{row}_{level}_frechet"] = shards.read(f"{level}_frechet")
            arrays[f"{row}_{level}_clip"] = cosine(shards.read(f"{level}_clip"), shards.read(f"{level}_text"))
    return arrays, spent


def theirs(folder: Path, images: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The same by clean-fid and transformers."""
    import torch
    from cleanfid.fid import get_folder_features
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    from evaluation.networks.inception import load_inception
    from workflow.random_weights.vocabulary import write_tokenizer

    network = load_inception(_weights(folder, "inception"))
    clip = CLIPModel.from_pretrained(folder / "transformers").eval()
    write_tokenizer(folder / "tokenizer", {"tokenizer_class": "CLIPTokenizer"})
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    # PIL's bicubic, as OpenAI's and open_clip's preprocessing has it; torchvision's differs by 0.03 in places.
    prepare = CLIPImageProcessorPil(size={"height": 224, "width": 224}, do_center_crop=False)
    options = {"num_workers": 0, "batch_size": BATCH, "device": torch.device("cpu"), "verbose": False}
    rows = layouts(images)
    table = regions(rows, SIDE, 1)
    texts = {"image": [row["caption"] for row in rows], "region": table["phrase"].tolist()}
    levels = {"image": "", "region": "-crops"}
    arrays: dict[str, np.ndarray] = {}
    started = time.perf_counter(), time.process_time()
    for level, suffix in levels.items():
        for row in ROWS[1:]:
            for name in (row, "real"):
                arrays[f"{name}_{level}_frechet"] = get_folder_features(
                    f"{folder / name}{suffix}", lambda x: network((x - 128) / 128)[0].flatten(1), **options
                )
        for row in ROWS:
            scores = _clip_scores(Path(f"{folder / row}{suffix}"), texts[level], clip, tokenizer, prepare)
            arrays[f"{row}_{level}_clip"] = np.concatenate(list(scores))
    return arrays, _timed(*started)


def _clip_scores(
    folder: Path, texts: Sequence[str], clip: "CLIPModel", tokenizer: Any, prepare: Any
) -> Iterator[np.ndarray]:
    """Cosines of the folder's images with their texts, a batch at a time."""
    import torch

    paths = sorted(folder.iterdir())
    for start in range(0, len(paths), BATCH):
        images = [Image.open(path).convert("RGB") for path in paths[start : start + BATCH]]
        words = tokenizer(list(texts[start : start + BATCH]), padding=True, return_tensors="pt")
        with torch.no_grad():
            seen = clip(**words, **prepare(images, return_tensors="pt"))
        yield torch.cosine_similarity(seen.image_embeds, seen.text_embeds).numpy()


def _weights(folder: Path, name: str) -> Path:
    from workflow.random_weights.architecture import read_architecture

    return folder / name / read_architecture(name).components["."].file


def as_transformers(state: "dict[str, torch.Tensor]", config: dict[str, Any]) -> "CLIPModel":
    """open_clip's weights in transformers' CLIP; `config` is open_clip's."""
    from transformers import CLIPConfig, CLIPModel

    vision, text = config["vision_cfg"], config["text_cfg"]
    widths = lambda part, heads: {  # noqa: E731
        "hidden_size": part["width"],
        "intermediate_size": 4 * part["width"],
        "num_hidden_layers": part["layers"],
        "num_attention_heads": heads,
        "hidden_act": "quick_gelu",
    }
    model = CLIPModel(
        CLIPConfig(
            text_config=widths(text, text["heads"]) | {"vocab_size": text["vocab_size"]},
            vision_config=widths(vision, vision["width"] // 64)
            | {"image_size": vision["image_size"], "patch_size": vision["patch_size"]},
            projection_dim=config["embed_dim"],
        )
    )
    renamed = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T,
        "text_projection.weight": state["text_projection"].T,
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
    }
    norms = {"vision_model.pre_layrnorm": "visual.ln_pre", "vision_model.post_layernorm": "visual.ln_post"}
    layers = {"text_model.final_layer_norm": "ln_final"} | norms
    for tower, stem, part in (("vision_model", "visual.transformer", vision), ("text_model", "transformer", text)):
        for i in range(part["layers"]):
            theirs, ours = f"{tower}.encoder.layers.{i}", f"{stem}.resblocks.{i}"
            names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
            names |= {"self_attn.out_proj": "attn.out_proj"}
            layers |= {f"{theirs}.{a}": f"{ours}.{b}" for a, b in names.items()}
            for kind in ("weight", "bias"):
                thirds = state[f"{ours}.attn.in_proj_{kind}"].chunk(3)
                renamed |= {
                    f"{theirs}.self_attn.{q}_proj.{kind}": value for q, value in zip("qkv", thirds, strict=True)
                }
    renamed |= {f"{a}.{kind}": state[f"{b}.{kind}"] for a, b in layers.items() for kind in ("weight", "bias")}
    model.load_state_dict(renamed)
    return model.eval()
