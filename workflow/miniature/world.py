"""The drawn world: scenes of coloured shapes with boxes, crowds, tiny objects and five captions each.

Everything is a function of a numpy generator. Sizes and positions are pixels of the drawn picture, whose shorter side is
`SIDE`; objects stand on a lattice of `LATTICE` pixels, which keeps a small autoencoder's latents simple.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from formats.layouts import area

SIDE = 64
LATTICE = 4
# COCO's category ids have gaps; so do these.
CATEGORIES = {1: "circle", 3: "square", 7: "triangle", 13: "star", 90: "ring"}
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 165, 60),
    "blue": (45, 80, 220),
    "yellow": (240, 205, 40),
    "purple": (165, 60, 205),
}
TONES = {"grey": (150, 150, 152), "dark": (56, 56, 62), "beige": (240, 234, 220)}
TEXTURES = ("plain", "gradient", "striped")
SIZES = (16, 20, 24, 28, 32)
TINY = 5
COUNT_SHARES = {0: 0.03, 1: 0.25, 2: 0.30, 3: 0.22, 4: 0.11, 5: 0.06, 6: 0.03}
SUPERSAMPLING = 8


@dataclass(frozen=True)
class Thing:
    """One drawn object: a shape in a square box at (left, top) of `size` pixels."""

    shape: str
    colour: str
    left: int
    top: int
    size: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Pixel xyxy."""
        return self.left, self.top, self.left + self.size, self.top + self.size


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn; `crowd` is a cluster of small copies annotated as one region."""

    width: int
    height: int
    tone: str
    texture: str
    turned: bool
    things: tuple[Thing, ...]
    crowd: tuple[Thing, ...] = ()


def scene(rng: np.random.Generator, square: bool = False) -> Scene:
    """Draw a random scene; `square` asks for the canvas alone, otherwise the longer side may exceed `SIDE`."""
    width, height = SIDE, SIDE
    if not square:
        longer = SIDE + int(rng.choice([0, 8, 16]))
        width, height = (longer, SIDE) if rng.random() < 0.7 else (SIDE, longer)
    count = int(rng.choice(list(COUNT_SHARES), p=list(COUNT_SHARES.values())))
    things = _place(rng, width, height, count)
    crowd = _crowd(rng, width, height) if rng.random() < 0.02 else ()
    if rng.random() < 0.08:
        things += (_thing(rng, width, height, TINY),)
    tone, texture = str(rng.choice(list(TONES))), str(rng.choice(TEXTURES, p=[0.7, 0.15, 0.15]))
    return Scene(width, height, tone, texture, bool(rng.random() < 0.5), things, crowd)


def _thing(rng: np.random.Generator, width: int, height: int, size: int) -> Thing:
    left = LATTICE * int(rng.integers(0, (width - size) // LATTICE + 1))
    top = LATTICE * int(rng.integers(0, (height - size) // LATTICE + 1))
    return Thing(str(rng.choice(list(CATEGORIES.values()))), str(rng.choice(list(COLOURS))), left, top, size)


def _place(rng: np.random.Generator, width: int, height: int, count: int) -> tuple[Thing, ...]:
    """Place objects by rejection; a fifth of the scenes allow real overlaps. May place fewer than asked."""
    allowed = 0.25 if rng.random() < 0.2 else 0.04
    sizes = SIZES[1:] if count <= 3 else SIZES[:3]
    twin = count >= 2 and rng.random() < 0.35
    placed: list[Thing] = []
    for _ in range(60 * max(count, 1)):
        if len(placed) == count:
            break
        new = _thing(rng, width, height, int(rng.choice(sizes)))
        if twin and placed and rng.random() < 0.7:
            new = Thing(placed[0].shape, placed[0].colour, new.left, new.top, new.size)
        if all(_overlap(new.box, old.box) <= allowed for old in placed):
            placed.append(new)
    return tuple(placed)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Intersection over the smaller box."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    smaller = min(area(a), area(b))
    return width * height / smaller


def _crowd(rng: np.random.Generator, width: int, height: int) -> tuple[Thing, ...]:
    first = _thing(rng, width - 24, height - 24, 8)
    cells = [(0, 0), (8, 0), (16, 0), (0, 8), (8, 8), (16, 8), (4, 16), (12, 16)]
    return tuple(Thing(first.shape, first.colour, first.left + x, first.top + y, 8) for x, y in cells)


def draw(picture: Scene) -> np.ndarray:
    """Paint a scene: uint8 [height, width, 3], later objects over earlier ones."""
    canvas = _background(picture)
    for thing in picture.crowd + picture.things:
        rows, columns = slice(thing.top, thing.top + thing.size), slice(thing.left, thing.left + thing.size)
        cover = mask(thing.shape, thing.size)[..., None]
        canvas[rows, columns] += cover * (np.array(COLOURS[thing.colour], np.float32) - canvas[rows, columns])
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _background(picture: Scene) -> np.ndarray:
    y, x = np.mgrid[: picture.height, : picture.width].astype(np.float32)
    along = x if picture.turned else y
    shade = np.zeros_like(along)
    if picture.texture == "gradient":
        shade = 40 * (along / SIDE - 0.5)
    elif picture.texture == "striped":
        shade = np.where(along // 8 % 2 == 0, 12.0, -12.0)
    return np.array(TONES[picture.tone], np.float32) + shade[..., None].astype(np.float32)


@lru_cache(maxsize=256)
def mask(shape: str, size: int) -> np.ndarray:
    """Antialiased coverage of a shape in its box: float32 [size, size] in 0..1."""
    fine = size * SUPERSAMPLING
    axis = (np.arange(fine) + 0.5) / fine * 2 - 1
    x, y = np.meshgrid(axis, axis)
    inside = INSIDE[shape](x, y).astype(np.float32)
    return inside.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean((1, 3))


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points: the radius along each ray of the star polygon, scaled to fill the box."""
    angle = np.arctan2(x, -(y - 0.05)) % (2 * np.pi / 5)
    fold = np.minimum(angle, 2 * np.pi / 5 - angle)
    outer, inner = 1.05, 0.45
    ax, ay = outer, 0.0
    bx, by = inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)
    radius = np.hypot(x, y - 0.05)
    px, py = radius * np.cos(fold), radius * np.sin(fold)
    return (bx - ax) * (py - ay) - (by - ay) * (px - ax) >= 0


INSIDE = {
    "circle": lambda x, y: x * x + y * y <= 1,
    "square": lambda x, y: np.ones_like(x, bool),
    "triangle": lambda x, y: np.abs(x) <= (y + 1) / 2,
    "star": _star,
    "ring": lambda x, y: (x * x + y * y <= 1) & (x * x + y * y >= 0.3),
}
