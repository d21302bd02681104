"""Write the trained weights as the repository ships them, measure them, and keep the card."""

import json
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

from evaluation.networks.open_clip import build_clip
from evaluation.networks.small_detector import SmallDetector
from formats.checksums import digests, write_sums
from formats.files import replacing, sha256, write_json, write_text
from workflow.miniature import checkpoints, ldm
from workflow.miniature.diffusion import latent_scale, shape_features
from workflow.miniature.grounded import Grounded, gated
from workflow.miniature.measure import measure, verdicts
from workflow.miniature.scoring import Census, settle
from workflow.miniature.shape_classifier import Judge
from workflow.miniature.sizes import SCHEDULER
from workflow.miniature.text import SHAPES

SHARED = ("vae", "text_encoder", "tokenizer", "scheduler")
SD_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "vae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
}
LDM_INDEX = {
    "_class_name": "LDMTextToImagePipeline",
    "vqvae": ["diffusers", "AutoencoderKL"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "bert": ["latent_diffusion", "LDMBertModel"],
    "tokenizer": ["transformers", "BertTokenizer"],
}


def ship(work: Path, out: Path, stages: list[str], clip_config: Path) -> None:
    """Write every model folder below `out`, then weights.json with hashes and readings."""
    _write_shared(work, out / "sd14")
    base = checkpoints.sd14(work)
    _write_unet(base, out / "sd14")
    for name, unet in {"sd15": checkpoints.sd15(work), "gligen": _gligen(work, base)}.items():
        _link_shared(out / name)
        _write_unet(unet, out / name)
    _write_ldm(work, out / "gligen_ldm")
    clip = settle(checkpoints.load_average(work / "scorer.pt", build_clip(clip_config)), seed=8)
    _save(clip, out / "clip" / "open_clip.safetensors")
    with replacing(out / "clip" / "config.json") as beside:
        shutil.copyfile(clip_config, beside)
    features = checkpoints.load_average(work / "features.pt", Census()).features
    _save(features, out / "features" / "model.safetensors")
    _save(checkpoints.load_average(work / "judge.pt", Judge()), out / "judge" / "judge.safetensors")
    _write_detector(work, out / "detector")
    for folder in ("sd14", "sd15", "gligen", "gligen_ldm", "clip", "features", "judge", "detector"):
        write_sums(out / folder, digests(out / folder))
    write_card(work, out, stages)


def write_card(work: Path, out: Path, stages: list[str]) -> None:
    """weights.json: hashes, what was measured against the bars, and how each stage was trained."""
    readings = measure(out)
    card = {
        "command": "snakemake pretrain",
        "bars": verdicts(readings),
        "measured": readings,
        "stages": {stage: _record(work / f"{stage}.pt") for stage in stages},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "sha256": {str(p.relative_to(out)): sha256(p) for p in sorted(out.rglob("*.safetensors"))},
    }
    write_json(out / "weights.json", card)
    print(json.dumps({"bars": card["bars"], "measured": readings}, indent=2))


def _record(path: Path) -> dict[str, Any]:
    saved = torch.load(path, weights_only=True, map_location="cpu")
    losses = {key: round(value, 5) for key, value in saved["curve"][-1].items() if key in ("loss", "held_out")}
    spent = {"steps": saved["step"], "minutes": round(saved["seconds"] / 60, 1), "devices": saved.get("devices", [])}
    return spent | losses


def _write_shared(work: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vae = checkpoints.autoencoder(work, scaling_factor=latent_scale(checkpoints.collection(work)))
    vae.half().save_pretrained(folder / "vae")
    checkpoints.text_encoder(work).half().save_pretrained(folder / "text_encoder")
    PNDMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "clip_sample"}).save_pretrained(folder / "scheduler")
    shutil.copytree(work / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    _write_index(folder, SD_INDEX)


def _write_ldm(work: Path, folder: Path) -> None:
    """The second stack, its parts named as those of the latent diffusion model on the hub; the autoencoder is sd14's."""
    folder.mkdir(parents=True, exist_ok=True)
    _link(folder / "vqvae", "vae")
    ldm.text_encoder(work).half().save_pretrained(folder / "bert")
    shutil.copytree(work / "wordpieces", folder / "tokenizer", dirs_exist_ok=True)
    DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "skip_prk_steps"}).save_pretrained(folder / "scheduler")
    _write_unet(ldm.gligen(work), folder)
    _write_index(folder, LDM_INDEX)


def _write_detector(work: Path, folder: Path) -> None:
    detector = checkpoints.load_average(work / "detector.pt", SmallDetector(len(SHAPES)))
    _save(detector, folder / "model.safetensors")
    write_text(folder / "labels.json", json.dumps(SHAPES) + "\n")


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    write_json(folder / "model_index.json", index)


def _link_shared(folder: Path) -> None:
    """sd15 and gligen share all but the U-Net with sd14; links keep the repository small."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in SHARED:
        _link(folder / part, part)
    _write_index(folder, SD_INDEX)


def _link(path: Path, part: str) -> None:
    """A link to a part of sd14."""
    if not path.is_symlink():
        path.symlink_to(Path("..") / "sd14" / part)


def _gligen(work: Path, base: nn.Module) -> nn.Module:
    grounded = Grounded(gated(base), shape_features(checkpoints.material(work)))
    return checkpoints.load_average(work / "grounding.pt", grounded).unet


def _write_unet(unet: nn.Module, folder: Path) -> None:
    assert isinstance(unet, UNet2DConditionModel)
    unet.half().save_pretrained(folder / "unet")
    unet.float()


def _save(model: nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    with replacing(path) as beside:
        save_file(state, beside)
