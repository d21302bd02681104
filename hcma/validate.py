"""What the alignment module tells from held-out noisy latents, and how hard it would pull on them."""

from collections.abc import Sequence

import torch

from hcma.alignment import Alignment
from hcma.batches import PART, Batch, Drawn, caption_mean, label_mean
from hcma.cache import Cache
from hcma.sampling.seeds import seeded

TIMES = (100, 300, 500, 700, 900)


def validate(module: Alignment, data: Cache, seed: int, images: int | None = None) -> dict[str, float]:
    """Means over TIMES on the first `images` held-out images (None: all), always with the same noise.

    heldout_global, heldout_local  losses (6) and (7)
    baseline_global, baseline_local  the losses of the constant mean embedding: what a collapsed module reaches
    recall_{t}  share of latents whose own caption is the nearest of all; label_accuracy_{t}  the same of boxes and labels
    gradient_global, gradient_local  median norm of the losses' gradients over the latent's norm
    """
    module.eval()
    rows: dict[str, list[float]] = {}
    for t in TIMES:
        for name, value in _at(module, heldout_at(data, t, seed, images).batch(data), data, t).items():
            rows.setdefault(name, []).append(value)
    means = {name: sum(values) / len(values) for name, values in rows.items()}
    return means | _baselines(module, data, images)


def heldout_at(data: Cache, t: int, seed: int, images: int | None) -> Drawn:
    """The first images of a split (None: all) in noise at t: the same noise every time, their first captions, and boxes."""
    numbers = torch.arange(len(data.latents_NCHW))[:images]
    noise = torch.randn(len(numbers), *data.latents_NCHW.shape[1:], generator=seeded(seed, 2, t))
    first, none = torch.zeros_like(numbers), torch.zeros(len(numbers), dtype=torch.bool)
    return Drawn(numbers, torch.full((len(numbers),), t), noise, first, none, none)


def _at(module: Alignment, batch: Batch, data: Cache, t: int) -> dict[str, float]:
    device = module.cls.device
    parts = zip(*(_read(module, [x.to(device) for x in part]) for part in batch.split(PART)), strict=True)
    omega_global_B, omega_local_B, ratio_global_B, ratio_local_B, global_BD, local_RD = map(torch.cat, parts)
    mask_BM, caption_BD, texts_LD = batch.mask_BM.to(device) > 0, batch.caption_BD.to(device), data.texts_LD.to(device)
    no_shift_D = torch.zeros_like(module.label_mean_D)
    named = _nearest(local_RD, texts_LD - (module.label_mean_D if module.config.center else no_shift_D))
    right_R = (texts_LD[named] == batch.labels_BMD.to(device)[mask_BM]).all(-1)
    shifted_BD = caption_BD - (module.caption_mean_D if module.config.center else no_shift_D)
    # Equal captions are equally right.
    recalled_B = (caption_BD[_nearest(global_BD, shifted_BD)] == caption_BD).all(-1)
    return {
        "heldout_global": float(omega_global_B.mean()),
        "heldout_local": float(omega_local_B[mask_BM.any(1)].mean()),
        "gradient_global": float(ratio_global_B.median()),
        "gradient_local": float(ratio_local_B.median()),
        f"recall_{t}": float(recalled_B.float().mean()),
        f"label_accuracy_{t}": float(right_R.float().mean()),
    }


def _read(module: Alignment, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Of a few images: losses, their gradients' norms over the latents', embeddings of images and, in rows, of boxes."""
    latents, t_B, caption_BD, boxes_BM4, labels_BMD, mask_BM = tensors
    latents.requires_grad_()
    omegas = module.losses(latents, t_B, caption_BD, boxes_BM4, labels_BMD, mask_BM)
    ratios = [_relative_gradient(omega_B, latents) for omega_B in omegas]
    with torch.no_grad():
        global_BD, local_BMD = module(latents, t_B, boxes_BM4)
    return *(omega_B.detach() for omega_B in omegas), *ratios, global_BD, local_BMD[mask_BM > 0]


def _nearest(vectors_BD: torch.Tensor, texts_LD: torch.Tensor) -> torch.Tensor:
    normal = torch.nn.functional.normalize
    return (normal(vectors_BD, dim=-1) @ normal(texts_LD, dim=-1).T).argmax(-1)


def _relative_gradient(omega_B: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(omega_B.sum(), latents, retain_graph=True)
    return gradient.flatten(1).norm(dim=1) / latents.detach().flatten(1).norm(dim=1)


@torch.no_grad()
def _baselines(module: Alignment, data: Cache, images: int | None) -> dict[str, float]:
    """Losses of a module that always answers with the mean of its own split's targets."""
    captions, cosine = data.captions_NKD[:images, 0], torch.nn.functional.cosine_similarity
    found = data.labels_NM[:images]
    labels = data.texts_LD[found[found >= 0]]
    shift_caption, shift_label = torch.zeros(1), torch.zeros(1)
    if module.config.center:
        shift_caption, shift_label = module.caption_mean_D.cpu(), module.label_mean_D.cpu()
    caption_answer, label_answer = caption_mean(data) - shift_caption, label_mean(data) - shift_label
    return {
        "baseline_global": float(1 - cosine(captions - shift_caption, caption_answer[None], dim=-1).mean()),
        "baseline_local": float(1 - cosine(labels - shift_label, label_answer[None], dim=-1).mean()),
    }
