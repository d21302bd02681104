"""Stage `judge`: a classifier of crops (shape, colour, or nothing) that measures the miniature's weights and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.ops import box_iou

from workflow.miniature.training import Run, State, train
from workflow.miniature.world import CATEGORIES, COLOURS, LATTICE, SIDE, SIZES, Scene, Thing, draw, scene

SHAPES = list(CATEGORIES.values())
NOTHING = len(SHAPES)
CROP = 24
SCENES = 24
PixelBox = tuple[int, int, int, int]


class Judge(nn.Module):
    """images_B3HW in -1..1, HW = CROP -> shape logits [B, 6] (the last is nothing) and colour logits [B, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_layer(3, 24, 1), *_layer(24, 48, 2), *_layer(48, 64, 2), *_layer(64, 64, 2), nn.Flatten(), nn.Dropout(0.1)
        )
        self.shape = nn.Linear(64 * 9, len(SHAPES) + 1)
        self.colour = nn.Linear(64 * 9, len(COLOURS))

    def forward(self, images_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.body(images_B3HW)
        return self.shape(seen), self.colour(seen)


def _layer(wide_in: int, wide_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(wide_in, wide_out, 3, stride, 1), nn.GroupNorm(8, wide_out), nn.SiLU()]


def load_judge(folder: Path) -> Judge:
    judge = Judge()
    judge.load_state_dict({name: value.float() for name, value in load_file(folder / "judge.safetensors").items()})
    return judge.eval()


def train_judge(run: Run) -> tuple[torch.nn.Module, State]:
    """Train on objects at their boxes, jittered a little, against windows that hold no whole object."""
    return train(run, Judge(), _loss, _loss)


def cut(images_B3HW: torch.Tensor, boxes: list[PixelBox]) -> torch.Tensor:
    """Crop image i at pixel box i and resize to CROP x CROP."""
    crops = [image[:, y0:y1, x0:x1] for image, (x0, y0, x1, y1) in zip(images_B3HW, boxes, strict=True)]
    size = (CROP, CROP)
    return torch.cat([nn.functional.interpolate(c[None], size, mode="bilinear", antialias=True) for c in crops])


def _loss(model: nn.Module, rng: np.random.Generator) -> torch.Tensor:
    crops, shapes, colours = _batch(rng)
    noisy = crops + torch.from_numpy(rng.standard_normal(crops.shape, np.float32)) * float(rng.uniform(0, 0.15))
    shape_logits, colour_logits = model(noisy)
    coloured = shapes != NOTHING
    colour_loss = nn.functional.cross_entropy(colour_logits[coloured], colours[coloured])
    return nn.functional.cross_entropy(shape_logits, shapes) + colour_loss


def _batch(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images, boxes, shapes, colours = [], [], [], []
    for picture in (scene(rng, square=True) for _ in range(SCENES)):
        canvas = torch.from_numpy(draw(picture)).permute(2, 0, 1).float() / 127.5 - 1
        things = [thing for thing in picture.things if thing.size > 8]
        for thing in things:
            images.append(canvas)
            boxes.append(_jitter(thing, rng))
            shapes.append(SHAPES.index(thing.shape))
            colours.append(list(COLOURS).index(thing.colour))
        for _ in range(2):
            window = _window(rng)
            if not (_overlaps([window], [thing.box for thing in picture.things]) >= 0.35).any():
                images.append(canvas)
                boxes.append(window)
                shapes.append(NOTHING)
                colours.append(0)
    return cut(torch.stack(images), boxes), torch.tensor(shapes), torch.tensor(colours)


def _jitter(thing: Thing, rng: np.random.Generator) -> PixelBox:
    x0, y0, x1, y1 = np.array(thing.box) + rng.integers(-2, 3, 4)
    return max(x0, 0), max(y0, 0), min(x1, SIDE), min(y1, SIDE)


def _window(rng: np.random.Generator) -> PixelBox:
    size = int(rng.choice(SIZES))
    x, y = LATTICE * rng.integers(0, (SIDE - size) // LATTICE + 1, 2)
    return int(x), int(y), int(x) + size, int(y) + size


def _overlaps(a: Sequence[PixelBox], b: Sequence[PixelBox]) -> torch.Tensor:
    """Intersection over union of every two boxes [N, M]."""
    return box_iou(*(torch.tensor(boxes, dtype=torch.float64).view(-1, 4) for boxes in (a, b)))


@torch.no_grad()
def in_boxes(judge: Judge, canvases: np.ndarray, scenes: list[Scene]) -> dict[str, float]:
    """Share of the scenes' objects whose shape, and colour, the judge reads at their boxes in `canvases` [B, H, W, 3]."""
    images = torch.from_numpy(canvases).permute(0, 3, 1, 2).float() / 127.5 - 1
    rows = [(i, thing) for i, picture in enumerate(scenes) for thing in picture.things if thing.size > 8]
    shape_logits, colour_logits = judge(cut(torch.stack([images[i] for i, _ in rows]), [t.box for _, t in rows]))
    shapes = torch.tensor([SHAPES.index(t.shape) for _, t in rows])
    colours = torch.tensor([list(COLOURS).index(t.colour) for _, t in rows])
    shape_right = shape_logits[:, :NOTHING].argmax(1) == shapes
    found = shape_logits.argmax(1) == shapes
    colour_right = colour_logits.argmax(1) == colours
    return {
        "shape": float(shape_right.float().mean()),
        "shape_and_object": float(found.float().mean()),
        "colour": float(colour_right.float().mean()),
        "objects": len(rows),
    }


@torch.no_grad()
def somewhere(judge: Judge, canvases: np.ndarray, wanted: list[list[tuple[str, str]]], sure: float = 0.9) -> float:
    """Share of wanted (shape, colour) objects found anywhere by windows of every size; each window serves one object."""
    images = torch.from_numpy(canvases).permute(0, 3, 1, 2).float() / 127.5 - 1
    windows = [
        (x, y, x + size, y + size)
        for size in SIZES
        for x in range(0, SIDE - size + 1, LATTICE)
        for y in range(0, SIDE - size + 1, LATTICE)
    ]
    found = total = 0
    for image, kinds in zip(images, wanted, strict=True):
        shape_logits, colour_logits = judge(cut(image.expand(len(windows), -1, -1, -1), windows))
        shape, colour = shape_logits.softmax(1), colour_logits.softmax(1)
        for kind in set(kinds):
            score = shape[:, SHAPES.index(kind[0])] * colour[:, list(COLOURS).index(kind[1])]
            found += min(kinds.count(kind), _apart(score, windows, sure))
            total += kinds.count(kind)
    return found / max(total, 1)


def _apart(score: torch.Tensor, windows: list[PixelBox], sure: float) -> int:
    """How many sure windows lie apart: best first, none overlapping one already taken by 0.2 or more."""
    overlaps, taken = _overlaps(windows, windows), list[int]()
    for i in score.argsort(descending=True).tolist():
        if score[i] < sure or len(taken) == 6:
            break
        if not (overlaps[i, taken] >= 0.2).any():
            taken.append(i)
    return len(taken)
