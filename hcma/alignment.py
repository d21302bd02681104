"""The alignment module: a vision transformer on the noisy latent with a global head (C2IA) and a local one (O2RA).

What the paper leaves open is a field of `AlignmentConfig`; the defaults are the readings recommended for reproduction.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from formats.files import InputError, replacing
from formats.params import from_keys

BOX_FEATURES = ("fourier_mask", "mask", "fourier_mlp", "fourier_literal")
POOLS = ("grid_mean", "area_mean")
TIME = ("none", "add")
FREQUENCIES = 8  # GLIGEN's box embedding: 8 frequencies, sine and cosine, 4 edges = 64 numbers


@dataclass(frozen=True)
class AlignmentConfig:
    """Sizes and readings of the alignment module.

    latent_channels, latent_size, text_width  of the diffusion model it serves; text_width is d_t = d_l
    patch        latent cells a side of one token; 4 at paper size, so that d_k = 4 * 4 * 4 = 64
    width        d_v; blocks, heads, mlp_ratio: the transformer, pre-norm
    box_feature  B: fourier_mask = mask * (1 + MLP(Fourier(box))), mask, fourier_mlp, or fourier_literal
    pool         grid_mean divides by all cells as the paper's mean does, area_mean by the box's own cells
    time_conditioning  add: a sinusoidal embedding of t on every token; the paper's text has none
    center       subtract the training captions' and labels' mean embedding from the targets
    label_template     text of a box's target
    """

    latent_channels: int
    latent_size: int
    text_width: int
    patch: int = 4
    width: int = 512
    blocks: int = 6
    heads: int = 8
    mlp_ratio: int = 4
    box_feature: str = "fourier_mask"
    pool: str = "grid_mean"
    time_conditioning: str = "none"
    center: bool = False
    label_template: str = "{label}"

    def __post_init__(self) -> None:
        for key, known in (("box_feature", BOX_FEATURES), ("pool", POOLS), ("time_conditioning", TIME)):
            if getattr(self, key) not in known:
                raise InputError(f"alignment.model.{key}: {getattr(self, key)!r} is not one of {', '.join(known)}")
        if self.latent_size % self.patch:
            raise InputError(
                f"alignment.model.patch: {self.patch} does not divide the latent's side {self.latent_size}"
            )
        if self.width % self.heads:
            raise InputError(f"alignment.model.heads: {self.heads} does not divide the width {self.width}")
        if self.box_feature == "fourier_literal" and self.cells % 8:
            raise InputError("alignment.model.box_feature: fourier_literal needs a number of cells divisible by 8")

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.latent_size // self.patch

    @property
    def cells(self) -> int:
        return self.grid**2


class Alignment(nn.Module):
    """Latents to a caption-like vector and one label-like vector a box; targets' means are kept for centring."""

    caption_mean_D: torch.Tensor
    label_mean_D: torch.Tensor

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        d_k = config.latent_channels * config.patch**2
        self.embed = nn.Sequential(nn.Linear(d_k, width), nn.GELU(), nn.Linear(width, width))
        self.cls = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position = nn.Parameter(torch.randn(1, config.cells + 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.mlp_ratio) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.box = BoxFeature(config)
        self.global_head = _three_layers(width, config.text_width)
        self.local_head = _three_layers(width, config.text_width)
        self.register_buffer("caption_mean_D", torch.zeros(config.text_width))
        self.register_buffer("label_mean_D", torch.zeros(config.text_width))

    def forward(
        self, latents_BCHW: torch.Tensor, t_B: torch.Tensor, boxes_BM4: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """f^G [B, d_t] and f^L [B, M, d_l]; boxes xyxy in the unit square, padded slots may hold zeros."""
        tokens_BND = self.embed(self._patches(latents_BCHW))
        x = torch.cat([self.cls.expand(len(tokens_BND), -1, -1), tokens_BND], dim=1) + self.position
        if self.config.time_conditioning == "add":
            x = x + _sinusoid(t_B, self.config.width)[:, None]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.global_head(x[:, 0]), self.local_head(self._pooled(x[:, 1:], boxes_BM4))

    def _patches(self, latents_BCHW: torch.Tensor) -> torch.Tensor:
        """[B, N, d_k]: non-overlapping patches, rows first."""
        return nn.functional.unfold(latents_BCHW, self.config.patch, stride=self.config.patch).transpose(1, 2)

    def _pooled(self, tokens_BND: torch.Tensor, boxes_BM4: torch.Tensor) -> torch.Tensor:
        """Mean over the grid of tokens times box feature: [B, M, d_v], without the N x M x d_v product in memory."""
        summed_BMD = torch.einsum("bnm,bnd->bmd", self.box(boxes_BM4), tokens_BND)
        if self.config.pool == "grid_mean":
            return summed_BMD / self.config.cells
        area_BM1 = box_mask(boxes_BM4, self.config.grid).sum(1)[..., None]
        return summed_BMD / area_BM1.clamp(min=1e-6)

    def losses(
        self,
        latents_BCHW: torch.Tensor,
        t_B: torch.Tensor,
        caption_BD: torch.Tensor,
        boxes_BM4: torch.Tensor,
        labels_BMD: torch.Tensor,
        mask_BM: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(6) and (7), one value a sample: 1 - cos to the caption, and its mean over the true boxes (0 without any).

        They are computed in the targets' precision, also where autocast lowers that of the module.
        """
        global_BD, local_BMD = (found.type_as(caption_BD) for found in self(latents_BCHW, t_B, boxes_BM4))
        if self.config.center:
            caption_BD, labels_BMD = caption_BD - self.caption_mean_D, labels_BMD - self.label_mean_D
        omega_global_B = 1 - nn.functional.cosine_similarity(global_BD, caption_BD, dim=-1)
        distance_BM = 1 - nn.functional.cosine_similarity(local_BMD, labels_BMD, dim=-1)
        omega_local_B = (distance_BM * mask_BM).sum(1) / mask_BM.sum(1).clamp(min=1)
        return omega_global_B, omega_local_B


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, x_BND: torch.Tensor) -> torch.Tensor:
        b, n, d = x_BND.shape
        qkv = self.qkv(self.norm_attention(x_BND)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x_BND = x_BND + self.out(seen)
        return x_BND + self.mlp(self.norm_mlp(x_BND))


class BoxFeature(nn.Module):
    """B in R^{N x M}: what every box gives to every cell of the grid."""

    def __init__(self, config: AlignmentConfig) -> None:
        super().__init__()
        self.reading, self.grid = config.box_feature, config.grid
        if self.reading in ("fourier_mask", "fourier_mlp"):
            hidden = 8 * FREQUENCIES
            self.mlp = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, config.cells))

    def forward(self, boxes_BM4: torch.Tensor) -> torch.Tensor:
        """[B, N, M]."""
        if self.reading == "mask":
            return box_mask(boxes_BM4, self.grid)
        if self.reading == "fourier_literal":
            return fourier(boxes_BM4, self.grid**2 // 8).transpose(1, 2)
        learnt_BNM = self.mlp(fourier(boxes_BM4, FREQUENCIES)).transpose(1, 2)
        return learnt_BNM if self.reading == "fourier_mlp" else box_mask(boxes_BM4, self.grid) * (1 + learnt_BNM)


def box_mask(boxes_BM4: torch.Tensor, grid: int) -> torch.Tensor:
    """Share of each cell that a box covers: [B, grid * grid, M], rows first."""
    start = torch.arange(grid, device=boxes_BM4.device) / grid
    x0, y0, x1, y1 = (edge[..., None] for edge in boxes_BM4.unbind(-1))
    across_BMW = (torch.minimum(x1, start + 1 / grid) - torch.maximum(x0, start)).clamp(min=0) * grid
    down_BMH = (torch.minimum(y1, start + 1 / grid) - torch.maximum(y0, start)).clamp(min=0) * grid
    return torch.einsum("bmh,bmw->bhwm", down_BMH, across_BMW).flatten(1, 2)


def fourier(boxes_BM4: torch.Tensor, frequencies: int) -> torch.Tensor:
    """sin and cos of 100^(k / frequencies) * edge: [B, M, 8 * frequencies], ordered as GLIGEN's (frequency, sin/cos, edge)."""
    steps = torch.arange(frequencies, device=boxes_BM4.device) / frequencies
    angles_BMK4 = boxes_BM4[..., None, :] * (100**steps)[:, None]
    return torch.stack([angles_BMK4.sin(), angles_BMK4.cos()], dim=-2).flatten(2)


def _three_layers(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, out))


def _sinusoid(t_B: torch.Tensor, width: int) -> torch.Tensor:
    rates = torch.exp(-math.log(10_000) * torch.arange(width // 2, device=t_B.device) / (width // 2))
    angles = t_B[:, None].float() * rates
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


def save_alignment(module: Alignment, path: str | Path) -> None:
    """Write weights and configuration as one safetensors file, whole or not at all."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with replacing(path) as beside:
        save_file(state, beside, metadata={"config": json.dumps(asdict(module.config), sort_keys=True)})


def load_alignment(path: str | Path) -> Alignment:
    """A frozen alignment module in evaluation mode; raises InputError naming a file that does not hold one."""
    try:
        with safe_open(path, "pt") as file:
            config = json.loads((file.metadata() or {})["config"])
            state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        module = Alignment(from_keys(AlignmentConfig, config, str(path)))
        module.load_state_dict(state)
    except (SafetensorError, KeyError, RuntimeError, FileNotFoundError) as error:
        raise InputError(f"{path}: not the weights of an alignment module ({str(error).splitlines()[0]})") from None
    return module.eval().requires_grad_(False)
