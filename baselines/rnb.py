"""R&B (Xiao et al. 2024): where a word is attended to shall fill its boxes (region), and end where they end (boundary).

Loss and loop are those of the official code at 251d9f8; the factors 120, 20 and 0.5 and all weights are found there alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel

from formats.layouts import Layout
from formats.params import expect_each, is_count, is_number
from hcma.sampling.attention import Attend, attention_reader, cross_attention, grid_side
from hcma.sampling.caption_tokens import Thing, append_missing, named_objects, things_of, visible
from hcma.sampling.counters import Counters, Passes
from hcma.sampling.diffusion import Diffusion, Guide, Sampling, decode, denoise, encode_text
from hcma.sampling.token_maps import enlarge, inside, slopes, smooth, smoothing_kernel

SIDE = 64  # cells to which all maps are brought, whatever the latent


@dataclass(frozen=True)
class Params:
    """Official values; the official solver is DDIM (the stanza's `sampling`).

    resolution       maps of the middle, of upward blocks up to this side and of downward blocks below it are used
    step             an update is step * gradient
    inner            share of the mean inside the boxes in the threshold of an object's region; the rest is the mean outside
    enough           an object whose region has this IoU with its boxes is done
    max_iterations   updates at most before a call
    stop             calls before this one are guided
    idle             before this call, images whose objects are all done are read on; from it on their guidance is over
    open_region      True, as the official code: a region leaves out the last row and column of its cells
    append_missing   False: boxes that the caption does not name are left out; True: they are named after the caption
    """

    resolution: int = 32
    step: float = 70.0
    inner: float = 0.4
    enough: float = 0.85
    max_iterations: int = 5
    stop: int = 10
    idle: int = 5
    open_region: bool = True
    append_missing: bool = False

    def __post_init__(self) -> None:
        expect_each(self, "resolution max_iterations stop idle", is_count, "an integer of at least 0")
        expect_each(self, "step", lambda v: is_number(v) and v > 0, "a positive number")
        expect_each(self, "inner enough", lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
        expect_each(self, "open_region append_missing", lambda v: type(v) is bool, "true or false")


def generate(sd: Diffusion, layouts: Sequence[Layout], noise_BCHW: torch.Tensor, params: Params) -> torch.Tensor:
    """uint8 pixels [B, 3, H, W] of the layouts' captions and of the boxes that these name, where they cover a cell."""
    prompts = append_missing(layouts) if params.append_missing else layouts
    text_BTD, _ = encode_text(sd, [prompt.caption for prompt in prompts])
    named = enumerate(named_objects(sd, prompts))
    things = [visible(sd.counters, row, things_of(found), [SIDE]) for row, found in named]
    layers = layers_of(sd.unet, params)
    loss = Loss(things, [name.startswith("down") for name in layers], params)
    guide = make_guide(attention_reader(sd, text_BTD, layers), loss, params, sd.sampling.duplicates, sd.counters)
    return decode(sd, denoise(sd, noise_BCHW, text_BTD, guide=guide))


def layers_of(unet: UNet2DConditionModel, params: Params) -> list[str]:
    """Names of the layers whose maps are used."""
    sides = {name: grid_side(unet, name) for name in cross_attention(unet)}
    return [name for name, side in sides.items() if side < params.resolution + (not name.startswith("down"))]


def passes(params: Params, sampling: Sampling) -> Passes:
    """What an image takes: when its objects are done depends on it."""
    guided = set(range(min(params.stop, sampling.calls))) - set(sampling.duplicates)
    idle = len([i for i in guided if i < params.idle])
    least = idle * params.max_iterations + min(1, len(guided) - idle, params.max_iterations)
    most = len(guided) * params.max_iterations
    return Passes(calls=sampling.calls, guided=(least, most), layers=lambda unet: layers_of(unet, params))


def make_guide(attend: Attend, loss: "Loss", params: Params, skip: range, counters: Counters) -> Guide:
    """The guide of a batch; an image without an object is left alone."""
    last_B = torch.tensor([torch.inf if found else 0.0 for found in loss.things])

    def guide(latents_BCHW: torch.Tensor, i: int, t: torch.Tensor) -> torch.Tensor:
        latents, most = latents_BCHW, 0 if i >= params.stop or i in skip else params.max_iterations
        for _ in range(most):
            rows = last_B.nonzero().flatten().to(latents.device)
            if not len(rows):
                break
            with torch.enable_grad():
                moving = latents[rows].detach().requires_grad_()
                loss_R, done_R = loss(attend(moving, t, rows), rows)
                total = loss_R.sum()
            if total.requires_grad:
                (gradient,) = torch.autograd.grad(total, moving)
                latents = latents.index_copy(0, rows, moving.detach() - params.step * gradient)
            counters.add("guidance_forwards", rows.tolist())
            counters.add_later("guidance_backwards", rows, (loss_R.detach() != 0).long())
            counters.add_later("objects_satisfied", rows, done_R)
            # A loss of 0 stays, and with it guidance is over; before call `idle` it is forgotten.
            left_R = loss_R.detach().float().cpu()
            last_B[rows.cpu()] = left_R.where(left_R != 0, torch.inf if i < params.idle else 0.0)
        return latents

    return guide


class Loss:
    """The official loss of a batch's images, from the maps of some of them; `down` tells which are of downward layers."""

    def __init__(self, things: Sequence[Sequence[Thing]], down: Sequence[bool], params: Params) -> None:
        self.things, self.down, self.params = things, down, params

    def __call__(self, maps: Sequence[torch.Tensor], rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The images' loss [R], without a gradient where every object is done, and how many of their objects are [R]."""
        named = [(place, thing) for place, row in enumerate(rows.tolist()) for thing in self.things[row]]
        place_N = torch.tensor([place for place, _ in named], device=rows.device)
        count_N = place_N.bincount()[place_N]
        mask_NYX = torch.stack([inside(thing.boxes, SIDE) for _, thing in named]).to(maps[0])
        # Tokens are summed before their maps are brought to one side, which changes nothing but the time it takes.
        raw_NYX = torch.stack([enlarge(_summed(one.mean(1), named)[..., None], SIDE) for one in maps]).mean(0)[..., 0]
        low, high = raw_NYX.amin((1, 2), True), raw_NYX.amax((1, 2), True)
        image_NYX = (raw_NYX - low) / (high - low)
        over_NYX = image_NYX - threshold(image_NYX, mask_NYX, self.params.inner)
        region_NYX, iou_N = region(over_NYX.detach() > 0, mask_NYX, self.params.open_region)
        # The boundary counts where an image has several objects, and this one's strongest cell lies outside its boxes.
        stray_N = (raw_NYX * mask_NYX).amax((1, 2)) < (raw_NYX * (1 - mask_NYX)).amax((1, 2))
        kept = [one.mean(1) for one, down in zip(maps, self.down, strict=True) if not down]
        loss_R, done_N = raw_NYX.new_zeros(len(rows)), iou_N >= self.params.enough
        for n in (~done_N).nonzero().flatten().tolist():
            image, mask, missing = image_NYX[n], mask_NYX[n], 1 - iou_N[n]
            # Straight through: the 0/1 region in value, the image's gradient.
            straight, part = (one + image - image.detach() for one in (region_NYX[n], region_NYX[n] * mask))
            soft = (20 * over_NYX[n]).sigmoid()
            loss = _missed(part * mask, straight, missing) + _missed(soft * mask, soft, missing / 2)
            if stray_N[n] and count_N[n] > 1:
                mean_1YXT = torch.stack([enlarge(one[named[n][0], None], SIDE) for one in kept]).mean(0)
                edges_1YXT = (120 * mean_1YXT[..., 1:]).softmax(-1)
                loss = loss + 1 - missing * boundary(_summed(edges_1YXT, [(0, named[n][1])], first=1), mask)
            loss_R = loss_R.index_add(0, place_N[n, None], loss[None] / count_N[n])
        return loss_R, torch.zeros_like(rows).index_add(0, place_N, done_N.long())


def _summed(maps_RPT: torch.Tensor, named: Sequence[tuple[int, Thing]], first: int = 0) -> torch.Tensor:
    """The sums over the things' tokens, [N, P] or [N, Y, X] of maps_RYXT; the first map is that of token `first`."""
    return torch.stack([maps_RPT[row][..., [k - first for k in thing.positions]].sum(-1) for row, thing in named])


def _missed(part: torch.Tensor, whole: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """1 - weight * share twice, once for the gradient of either sum; the official code has no number for an empty region."""
    n, d = part.sum(), whole.sum()
    d = d + (d.detach() == 0)
    return 2 - weight * (n / d.detach() + n.detach() / d)


def threshold(image_NYX: torch.Tensor, mask_NYX: torch.Tensor, inner: float) -> torch.Tensor:
    """[N, 1, 1]: inner * mean inside + (1 - inner) * mean outside; 0, as in the official code, where nothing is outside."""
    outside_NYX = 1 - mask_NYX
    means = [(image_NYX * m).sum((1, 2), True) / m.sum((1, 2), True).clamp(min=1) for m in (mask_NYX, outside_NYX)]
    return (inner * means[0] + (1 - inner) * means[1]) * outside_NYX.amax((1, 2), True)


def region(over_NYX: torch.Tensor, mask_NYX: torch.Tensor, is_open: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """0/1 the tightest box of the cells that are True, without its last row and column if open; its IoU with the mask [N]."""
    boxes = []
    for line_NS in (over_NYX.any(2), over_NYX.any(1)):
        place_S = torch.arange(line_NS.shape[1], device=line_NS.device)
        last_N1 = place_S.where(line_NS, -1).amax(1, keepdim=True) + (not is_open)
        boxes.append((place_S >= place_S.where(line_NS, SIDE).amin(1, keepdim=True)) & (place_S < last_N1))
    region_NYX = (boxes[0][:, :, None] & boxes[1][:, None]).to(mask_NYX)
    return region_NYX, (region_NYX * mask_NYX).sum((1, 2)) / region_NYX.maximum(mask_NYX).sum((1, 2))


def boundary(edges_1YX: torch.Tensor, mask_YX: torch.Tensor) -> torch.Tensor:
    """Share of the slope of a smoothed image that lies inside; the kernel, of sigma 3, is nearly a plain mean."""
    scaled = edges_1YX / edges_1YX.detach().amax()
    slope_YX = slopes(smooth(scaled[None], smoothing_kernel(3, 3.0))[0])[0]
    return (slope_YX * mask_YX[1:-1, 1:-1]).sum() / slope_YX.sum().clamp(min=1e-30)
