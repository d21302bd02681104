import importlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from baselines import stable_diffusion
from formats.checksums import folder_sha256
from formats.cli import INTERRUPTED
from formats.images import read_images, read_meta
from formats.layouts import Layout, Object, read_layouts, write_layouts
from hcma.sampling import sample
from hcma.sampling.shard_checkpoint import ShardCheckpoint
from tests.launch import status
from tests.tiny import write_sums, write_tiny

ROOT = Path(sample.__file__).parents[2]
CAT = Object("cat", (0.1, 0.2, 0.4, 0.9))
LAYOUTS = [
    Layout(30, 1, "a cat", (CAT,)),
    Layout(10, 2, "cat " * 60, (CAT,) * 35),
    Layout(20, 3, "", ()),
    Layout(50, 4, "two dogs", (CAT, CAT)),
    Layout(40, 5, "a mat", (CAT,)),
]


@dataclass
class Run:
    """A place to sample in; `sample` calls the program and gives its exit status."""

    folder: Path
    spec: dict
    batch_size: int = 2

    @property
    def out(self) -> Path:
        return self.folder / "samples" / "0000.zip"

    def argv(self) -> list[str]:
        (self.folder / "spec.json").write_text(json.dumps(self.spec))
        names = {"--spec": "spec.json", "--layouts": "layouts.jsonl", "--out": self.out, "--work": "work"}
        paths = [text for flag, name in names.items() for text in (flag, str(self.folder / name))]
        return [*paths, "--batch-size", str(self.batch_size)]

    def sample(self) -> int:
        return status(sample.main, self.argv())

    def left(self) -> set[str]:
        return {path.name for path in self.folder.rglob("*")} - {"spec.json", "layouts.jsonl", "samples"}

    def images(self) -> dict[int, list[int]]:
        return {id: image.astype(int) for id, image in read_images(self.out, [layout.id for layout in LAYOUTS])}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("gated"), gated=True)


@pytest.fixture
def run(tmp_path, model):
    spec = {
        "method": "gligen_sd",
        "module": "baselines.gligen",
        "base": "gligen",
        "model": str(model),
        "weights_sha256": folder_sha256(model),
        "sampling": {"steps": 3},
        "params": {"tau": 0.5},
        "version": 1,
    }
    return at(tmp_path / "run", spec)


def at(folder, spec, **settings):
    folder.mkdir()
    write_layouts(folder / "layouts.jsonl", LAYOUTS)
    return Run(folder, spec, **settings)


def image_bytes(path):
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist() if name != "meta.json"]


def fail_at(monkeypatch, module, id, error):
    generate = module.generate

    def failing(sd, layouts, noise_BCHW, params):
        if any(layout.id == id for layout in layouts):
            raise error
        return generate(sd, layouts, noise_BCHW, params)

    monkeypatch.setattr(module, "generate", failing)


def test_a_shard_holds_its_images_and_how_they_were_made(run):
    assert run.sample() == 0
    assert run.left() == {"0000.zip"}
    assert [name for name, _ in image_bytes(run.out)] == [f"{layout.id:012d}.png" for layout in LAYOUTS]
    meta = read_meta(run.out)
    assert meta["spec"]["params"] == {"tau": 0.5}
    assert meta["weights_sha256"] == {"model": run.spec["weights_sha256"]}
    assert meta["counts"] == {"unet_forwards": 8 * 5, "truncated_captions": 1, "dropped_boxes": 5}
    assert meta["counts_per_image"]["unet_forwards"] == 8
    assert {"torch", "diffusers", "transformers", "python"} <= set(meta["versions"])
    assert {"commit", "device", "seconds", "batch_size"} <= set(meta)


def test_batch_and_shard_change_nothing(run, tmp_path):
    assert run.sample() == 0
    whole = run.images()
    other = at(tmp_path / "other", run.spec, batch_size=3)
    write_layouts(other.folder / "layouts.jsonl", [LAYOUTS[k] for k in (4, 2, 0, 1, 3)])
    assert other.sample() == 0
    again = other.images()
    assert all(abs(whole[id] - again[id]).max() <= 1 for id in whole)


def test_an_interrupted_shard_goes_on_to_the_same_bytes(run, tmp_path, monkeypatch):
    whole = at(tmp_path / "whole", run.spec)
    assert whole.sample() == 0
    with monkeypatch.context() as patch:
        fail_at(patch, importlib.import_module("baselines.gligen"), 20, KeyboardInterrupt())
        assert run.sample() == INTERRUPTED
    assert not run.out.exists()
    assert "000000000030.zip" in run.left()
    with monkeypatch.context() as patch:
        fail_at(patch, importlib.import_module("baselines.gligen"), 30, AssertionError("sampled twice"))
        assert run.sample() == 0
    assert image_bytes(run.out) == image_bytes(whole.out)
    assert run.left() == {"0000.zip"}
    volatile = {"seconds"}
    metas = [{k: v for k, v in read_meta(each.out).items() if k not in volatile} for each in (run, whole)]
    assert metas[0] == metas[1]


def test_a_killed_process_loses_at_most_its_batch(run, tmp_path):
    run.spec |= {"module": "tests.dying_method", "params": {}}
    whole = at(tmp_path / "whole", run.spec)
    assert whole.sample() == 0
    command = [sys.executable, "-m", "hcma.sampling.sample", *run.argv()]
    killed = subprocess.run(command, cwd=ROOT, env=os.environ | {"DIE_AT": "40"}, capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    # The batch before the one that dies may still be on its way to the disk.
    assert "000000000030.zip" in run.left() and not run.out.exists()
    assert run.sample() == 0
    assert image_bytes(run.out) == image_bytes(whole.out)


@pytest.mark.parametrize("change", ["params", "layouts"])
def test_batches_of_another_spec_or_layout_are_not_reused(run, tmp_path, monkeypatch, change):
    with monkeypatch.context() as patch:
        fail_at(patch, importlib.import_module("baselines.gligen"), 40, KeyboardInterrupt())
        assert run.sample() == INTERRUPTED
    fresh = at(tmp_path / "fresh", run.spec)
    for each in (run, fresh):
        if change == "params":
            each.spec = each.spec | {"params": {"tau": 1.0}}
        else:
            write_layouts(each.folder / "layouts.jsonl", [replace(layout, caption="fish") for layout in LAYOUTS])
        assert each.sample() == 0
    assert image_bytes(run.out) == image_bytes(fresh.out)


def test_a_full_disk_keeps_what_is_finished(run, monkeypatch, capsys):
    import resource

    with monkeypatch.context() as patch:
        fail_at(patch, importlib.import_module("baselines.gligen"), 40, KeyboardInterrupt())
        assert run.sample() == INTERRUPTED
    largest = max(path.stat().st_size for path in run.folder.rglob("*.zip"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 1000, hard))
    try:
        assert run.sample() == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {run.out}: File too large"
    assert not run.out.exists() and not list(run.folder.rglob("*.tmp"))
    with monkeypatch.context() as patch:
        for id in (30, 20, 40):
            fail_at(patch, importlib.import_module("baselines.gligen"), id, AssertionError("sampled twice"))
        assert run.sample() == 0


def spoil(monkeypatch, id, always=False, black=False):
    """Images of layout `id` come out not finite, or black, unless the U-Net runs in float32."""
    generate = stable_diffusion.generate

    def spoilt(sd, layouts, noise_BCHW, params):
        wrong = [row for row, layout in enumerate(layouts) if layout.id == id and (always or sd.dtype != torch.float32)]
        if not black:
            noise_BCHW[wrong] = float("nan")
        pixels = generate(sd, layouts, noise_BCHW, params)
        pixels[wrong] = 0
        return pixels

    monkeypatch.setattr(stable_diffusion, "generate", spoilt)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_latents_that_are_not_finite_name_their_layout(run, monkeypatch, capsys, precision):
    run.spec |= {"module": "baselines.stable_diffusion", "params": {}, "sampling": {"steps": 3, "precision": precision}}
    spoil(monkeypatch, 40)  # float32 mends it: not to be named
    spoil(monkeypatch, 50, always=True)
    assert run.sample() == 1
    assert "error: layouts 50: latents are not finite" in capsys.readouterr().err
    assert not run.out.exists() and "000000000030.zip" in run.left()


@pytest.mark.parametrize("black", [True, False])
def test_what_half_precision_spoils_is_made_again_in_float32(run, tmp_path, monkeypatch, capsys, black):
    run.spec |= {"module": "baselines.stable_diffusion", "params": {}}
    whole = at(tmp_path / "whole", run.spec)
    assert whole.sample() == 0
    run.spec |= {"sampling": {"steps": 3, "precision": "bfloat16"}}
    lowered = at(tmp_path / "lowered", run.spec)
    assert lowered.sample() == 0
    spoil(monkeypatch, 50, black=black)
    assert run.sample() == 0
    assert "layouts 50: made again in float32" in capsys.readouterr().err
    assert all(abs(run.images()[id] - image).max() <= 1 for id, image in lowered.images().items() if id != 50)
    assert abs(run.images()[50] - whole.images()[50]).max() <= 1
    meta = read_meta(run.out)
    assert meta["counts"]["redone_in_float32"] == 1 and "black_images" not in meta["counts"]
    assert meta["redone_in_float32"] == [50] and read_meta(lowered.out)["redone_in_float32"] == []
    work, usual = (
        {id: counts["unet_forwards"] for id, counts in read_meta(each.out)["work"].items()} for each in (run, lowered)
    )
    assert work == usual


def test_a_u_net_that_overflows_in_half_precision_is_run_in_float32(run, tmp_path):
    loud = write_tiny(tmp_path / "loud")
    unet = UNet2DConditionModel.from_pretrained(loud / "unet")
    unet.conv_in.weight.data *= 1e6
    unet.save_pretrained(loud / "unet")
    write_sums(loud)
    run.spec |= {"module": "baselines.stable_diffusion", "params": {}, "model": str(loud), "weights_sha256": None}
    assert run.sample() == 0
    whole = run.images()
    lowered = at(tmp_path / "lowered", run.spec | {"sampling": {"steps": 3, "precision": "float16"}})
    assert lowered.sample() == 0
    assert read_meta(lowered.out)["redone_in_float32"] == [layout.id for layout in LAYOUTS]
    assert all((image == whole[id]).all() for id, image in lowered.images().items())


def test_black_images_in_float32_are_counted(run, monkeypatch):
    run.spec |= {"module": "baselines.stable_diffusion", "params": {}}
    spoil(monkeypatch, 50, always=True, black=True)
    assert run.sample() == 0
    assert read_meta(run.out)["black_images"] == [50]


def test_out_of_memory_halves_the_batch_for_the_rest(run, tmp_path, monkeypatch, capsys):
    whole = at(tmp_path / "whole", run.spec, batch_size=2)
    assert whole.sample() == 0
    module = importlib.import_module("baselines.gligen")
    generate, tried = module.generate, []

    def small(sd, layouts, noise_BCHW, params):
        tried.append(len(layouts))
        if len(layouts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(sd, layouts, noise_BCHW, params)

    monkeypatch.setattr(module, "generate", small)
    run.batch_size = 4
    assert run.sample() == 0
    assert tried == [4, 2, 2, 1]
    assert "out of memory with a batch of 4 images: going on with 2" in capsys.readouterr().err
    assert image_bytes(run.out) == image_bytes(whole.out)
    meta = read_meta(run.out)
    assert meta["batch_size"] == 2 and meta["batches"] == {"2": 2, "1": 1} and meta["out_of_memory"] == [4]


def test_out_of_memory_with_one_image_is_one_line(run, monkeypatch, capsys):
    fail_at(monkeypatch, importlib.import_module("baselines.gligen"), 20, torch.OutOfMemoryError("CUDA"))
    assert run.sample() == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: layout 20: out of memory with a single image")
    assert {"000000000030.zip"} <= run.left()


def test_images_are_written_while_the_next_batch_is_made(run, monkeypatch):
    events, add = [], ShardCheckpoint.add
    module = importlib.import_module("baselines.gligen")
    generate = module.generate
    busy, free = threading.Event(), threading.Event()

    def slow_add(self, ids, *given):
        busy.set()
        assert free.wait(20)
        add(self, ids, *given)
        events.append(("kept", ids[0]))

    def noted(sd, layouts, noise_BCHW, params):
        if events and layouts[0].id == 20:
            assert busy.wait(20)
            free.set()
        events.append(("made", layouts[0].id))
        return generate(sd, layouts, noise_BCHW, params)

    monkeypatch.setattr(ShardCheckpoint, "add", slow_add)
    monkeypatch.setattr(module, "generate", noted)
    assert run.sample() == 0  # the second batch begins while the first is not written yet
    assert [event for event in events if event[0] == "kept"] == [("kept", 30), ("kept", 20), ("kept", 40)]


def test_an_error_of_writing_ends_the_program(run, monkeypatch, capsys):
    def full(self, ids, *given):
        raise OSError(28, "No space left on device", str(self.folder / "x.zip"))

    monkeypatch.setattr(ShardCheckpoint, "add", full)
    assert run.sample() == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("x.zip: No space left on device")
    assert not run.out.exists()


def test_channels_last_changes_nothing_beyond_a_level(run, tmp_path):
    assert run.sample() == 0
    other = at(tmp_path / "other", run.spec)
    assert status(sample.main, [*other.argv(), "--channels-last"]) == 0
    assert all(abs(image - run.images()[id]).max() <= 1 for id, image in other.images().items())
    assert read_meta(other.out)["speed"] == {"compile": False, "channels_last": True}


@pytest.mark.slow
@pytest.mark.parametrize("module", ["baselines.gligen", "baselines.attend_and_excite"])
def test_compiling_changes_nothing_beyond_a_level(run, tmp_path, module):
    params = {"tau": 0.5} if module == "baselines.gligen" else {"resolution": 8, "step": 1.0}
    run.spec |= {"module": module, "params": params}
    run.batch_size = len(LAYOUTS)
    assert run.sample() == 0
    other = at(tmp_path / "other", run.spec, batch_size=len(LAYOUTS))
    assert status(sample.main, [*other.argv(), "--compile"]) == 0
    assert all(abs(image - run.images()[id]).max() <= 1 for id, image in other.images().items())
    counts = [read_meta(each.out)["counts"] for each in (run, other)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": {"tua": 0.5}}, "method gligen_sd, params: tua: unknown key"),
        ({"params": {"tau": 2}}, "method gligen_sd, params: tau: expected"),
        ({"sampling": {"step": 3}}, "method gligen_sd, sampling: step: unknown key"),
        ({"sampling": {"scheduler": "plms"}}, "method gligen_sd, sampling: sampling.scheduler: 'plms'"),
        ({"module": "baselines.gligan"}, "method gligen_sd: no module 'baselines.gligan'"),
        ({"module": "baselines"}, "method gligen_sd: module 'baselines' has no Params"),
        ({"weights_sha256": "0" * 64}, "but method gligen_sd was specified with 0000"),
        ({"model": "absent"}, "absent: no such model folder"),
        ({"artefacts": {"eta": {"path": "absent", "sha256": ""}}}, "module 'baselines.gligen' has no load"),
        ({"extra": 1}, "extra: unknown key"),
    ],
)
def test_a_bad_spec_is_one_line_and_leaves_nothing(run, capsys, change, message):
    run.spec |= change
    assert run.sample() == 1
    found = capsys.readouterr().err
    assert found.startswith("error: ") and message in found and found.count("\n") == 1
    assert not run.left()


def test_a_gated_method_refuses_a_plain_model(run, tmp_path, capsys):
    plain = write_tiny(tmp_path / "plain")
    run.spec |= {"model": str(plain), "weights_sha256": folder_sha256(plain)}
    assert run.sample() == 1
    assert 'error: this method needs a U-Net with attention_type "gated"' in capsys.readouterr().err


def test_changed_weights_are_refused(run, tmp_path, capsys):
    other = write_tiny(tmp_path / "other", gated=True, seed=1)
    run.spec |= {"model": str(other)}
    assert run.sample() == 1
    write_sums(other)
    (other / "unet/config.json").write_text("{}")
    run.spec |= {"weights_sha256": folder_sha256(other)}
    assert run.sample() == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "SHA256SUMS: sha256 is" in first and "unet/config.json: sha256 is" in second


def test_missing_layouts_and_bad_arguments(run, capsys):
    (run.folder / "layouts.jsonl").unlink()
    assert run.sample() == 1
    assert capsys.readouterr().err.endswith("layouts.jsonl: no such file\n")
    write_layouts(run.folder / "layouts.jsonl", LAYOUTS)
    assert status(sample.main, [*run.argv(), "--device", "cuda:99"]) == 1
    assert capsys.readouterr().err.startswith("error: --device cuda:99: cannot be used here")
    with pytest.raises(SystemExit):
        sample.main([*run.argv(), "--batch-size", "0"])


def test_no_layouts_give_an_empty_shard(run):
    write_layouts(run.folder / "layouts.jsonl", [])
    assert read_layouts(run.folder / "layouts.jsonl") == []
    assert run.sample() == 0
    assert list(read_images(run.out, [])) == []


def test_a_model_that_moved_is_taken_from_where_it_is_now(run, tmp_path, capsys) -> None:
    assert run.sample() == 0
    moved = at(tmp_path / "moved", run.spec | {"model": "gone"})
    assert moved.sample() == 1
    assert "gone: no such model folder" in capsys.readouterr().err
    assert status(sample.main, [*moved.argv(), "--model", run.spec["model"]]) == 0
    assert all((moved.images()[id] == image).all() for id, image in run.images().items())
