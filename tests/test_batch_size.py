"""The batch is as large as fits: the search, and the first pass by which a size is tried."""

import pytest
import torch

from baselines import attend_and_excite, gligen, multidiffusion
from formats.layouts import Layout, Object
from hcma.sampling import batch_size
from hcma.sampling.batch_size import ELSEWHERE, LIMIT, choose_batch_size, first_pass, largest
from hcma.sampling.diffusion import Sampling, load_diffusion
from hcma.sampling.loading import Method
from tests.tiny import write_tiny

CAT = Object("cat", (0.1, 0.2, 0.6, 0.9), (2, 5))
LAYOUTS = [Layout(id, id, "a cat", (CAT,) * (id % 3)) for id in range(1, 7)]


def affine(base, each, total=10**9):
    """Memory of a batch: some bytes for all, and so many an image; none beyond `total`."""
    return lambda size: None if base + each * size > total else base + each * size


@pytest.mark.parametrize(
    ("peak", "budget", "limit", "size"),
    [
        (affine(10, 5), 100, 64, 16),
        (affine(10, 5, total=60), 100, 64, 8),
        (affine(10, 5), 10**6, 64, 64),
        (affine(10, 5), 10**6, 5, 4),
        (affine(200, 5), 100, 64, 1),
        (affine(200, 5, total=100), 100, 64, 1),
    ],
)
def test_it_doubles_while_it_fits(peak, budget, limit, size):
    found = largest(peak, budget, limit)
    assert found.size == size
    assert found.probe["budget"] == budget and max(found.probe["peaks"].values(), default=0) <= budget


def test_the_cpu_has_a_default():
    sd = type("Model", (), {"device": torch.device("cpu")})
    assert choose_batch_size(Method(None, None, sd), LAYOUTS) == batch_size.Choice(ELSEWHERE)


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return load_diffusion(write_tiny(tmp_path_factory.mktemp("gated"), gated=True), Sampling(steps=20))


@pytest.mark.parametrize(
    ("module", "params"),
    [
        (gligen, gligen.Params()),
        (attend_and_excite, attend_and_excite.Params(resolution=8, thresholds=((0, 1.0),), max_refinements=3)),
        (multidiffusion, multidiffusion.Params()),
    ],
)
def test_a_size_is_tried_by_one_whole_pass_with_the_guidance_before_it(sd, module, params):
    calls = []
    counting = sd.unet.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    first_pass(Method(module, params, sd), LAYOUTS[:2])
    counting.remove()
    guided = [2] * 4 if module is attend_and_excite else []
    whole = 2 * sum(1 + len(row.objects) for row in LAYOUTS[:2]) if module is multidiffusion else 4
    assert calls == [*guided, whole]
    assert not sd.counters.images and not sd.unet._forward_hooks


def test_on_a_gpu_the_fullest_layouts_are_tried_within_a_share_of_what_is_free(monkeypatch):
    """CUDA's functions are stand-ins here: what is tested is what is asked of them, and in which order."""
    tried, reserved = [], [100]

    def tries(method, batch):
        tried.append([len(row.objects) for row in batch])
        reserved[0] = 100 + 30 * len(batch)
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(batch_size, "first_pass", tries)
    for name, value in {"empty_cache": None, "reset_peak_memory_stats": None, "synchronize": None}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: reserved[0])
    sd = type("Model", (), {"device": torch.device("cuda")})
    found = choose_batch_size(Method(None, None, sd), LAYOUTS)
    assert tried == [[2], [2, 2], [2, 2, 1, 1]] and LIMIT > 4
    assert found == batch_size.Choice(2, {"budget": 800, "peaks": {1: 30, 2: 60}})
