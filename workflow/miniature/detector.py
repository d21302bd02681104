"""Stage `detector`: where is what? A small network for layout adherence, which no method ever sees."""

import numpy as np
import torch
from torch import nn

from evaluation.networks.small_detector import SmallDetector
from workflow.miniature.autoencoder import pixels
from workflow.miniature.text import SHAPES
from workflow.miniature.training import Run, State, train
from workflow.miniature.world import SIDE, Scene, draw, scene

BATCH = 32
CELLS = SmallDetector.SIDE // SmallDetector.STRIDE
SPREAD = 1.0  # standard deviation, in cells, of the soft target around a centre


def train_detector(run: Run) -> tuple[nn.Module, State]:
    """Find every object larger than the tiny ones, in pictures with a little noise."""
    return train(run, SmallDetector(len(SHAPES)), _loss, _loss)


def _loss(model: nn.Module, rng: np.random.Generator) -> torch.Tensor:
    scenes = [scene(rng, square=True) for _ in range(BATCH)]
    seen = pixels(np.stack([draw(picture) for picture in scenes]))
    noisy = seen + torch.from_numpy(rng.standard_normal(seen.shape, np.float32)) * float(rng.uniform(0, 0.15))
    heat_BLHW, edges_B4HW, near_BHW = (
        torch.from_numpy(np.stack(part)) for part in zip(*map(targets, scenes), strict=True)
    )
    logits_BLHW, found_B4HW = model(noisy)
    objects = max(1, int((heat_BLHW == 1).sum()))
    overlap_BHW = _overlap(found_B4HW, edges_B4HW)
    return (_focal(logits_BLHW, heat_BLHW) + ((1 - overlap_BHW) * near_BHW).sum()) / objects


def targets(picture: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Soft centres [L, 16, 16], edge distances [4, 16, 16] in units of the side, and the cells where edges count [16, 16].

    Where objects overlap, a cell belongs to the one whose centre is nearest.
    """
    heat = np.zeros((len(SHAPES), CELLS, CELLS), np.float32)
    edges, near = np.zeros((4, CELLS, CELLS), np.float32), np.zeros((CELLS, CELLS), np.float32)
    y, x = (np.mgrid[:CELLS, :CELLS] + 0.5) / CELLS
    for thing in (thing for thing in picture.things if thing.size > 8):
        x0, y0, x1, y1 = (edge / SIDE for edge in thing.box)
        row, column = int((y0 + y1) / 2 * CELLS), int((x0 + x1) / 2 * CELLS)
        squared = ((x - x[row, column]) ** 2 + (y - y[row, column]) ** 2) * CELLS**2
        soft = np.exp(-squared / (2 * SPREAD**2)).astype(np.float32)
        label = SHAPES.index(thing.shape)
        heat[label] = np.maximum(heat[label], soft)
        mine = (soft > 0.5) & (soft >= near)
        edges[:, mine] = np.stack([x - x0, y - y0, x1 - x, y1 - y])[:, mine]
        near[mine] = soft[mine]
    return heat, edges, near


def _focal(logits_BLHW: torch.Tensor, heat_BLHW: torch.Tensor) -> torch.Tensor:
    """The penalty-reduced focal loss of centre maps (Zhou et al. 2019), summed."""
    p, log_p = logits_BLHW.sigmoid(), nn.functional.logsigmoid(logits_BLHW)
    log_not = nn.functional.logsigmoid(-logits_BLHW)
    centre = heat_BLHW == 1
    return -torch.where(centre, (1 - p) ** 2 * log_p, (1 - heat_BLHW) ** 4 * p**2 * log_not).sum()


def _overlap(a_B4HW: torch.Tensor, b_B4HW: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes given by edge distances from one point; meaningless where b's are 0."""
    least = torch.minimum(a_B4HW, b_B4HW)
    inside = (least[:, 0] + least[:, 2]) * (least[:, 1] + least[:, 3])
    a, b = ((part[:, 0] + part[:, 2]) * (part[:, 1] + part[:, 3]) for part in (a_B4HW, b_B4HW))
    return inside / (a + b - inside).clamp(min=1e-6)
