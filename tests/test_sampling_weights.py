import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from formats.files import InputError
from hcma.sampling.diffusion import Sampling, load_diffusion
from tests.tiny import write_sums, write_tiny

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("saved"), gated=True)


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def edit_config(folder, **changes):
    path = folder / "unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    write_sums(folder)


def edit_weights(folder, path, edit):
    tensors = load_file(folder / path)
    edit(tensors)
    save_file(tensors, folder / path, metadata={"format": "pt"})
    write_sums(folder)


def test_an_intact_folder_passes_and_loads_frozen_in_float32(folder):
    sd = load_diffusion(folder, Sampling())
    for module in (sd.unet, sd.vae, sd.text_encoder):
        assert not module.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in module.parameters())


def test_half_precision_files_are_computed_in_float32(folder):
    for path in (UNET, "text_encoder/model.safetensors"):
        edit_weights(folder, path, lambda tensors: tensors.update({name: t.half() for name, t in tensors.items()}))
    sd = load_diffusion(folder, Sampling())
    assert sd.unet.dtype == sd.text_encoder.dtype == torch.float32


def test_a_changed_file_is_refused_before_anything_is_loaded(folder):
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-1])
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors: sha256 is"):
        load_diffusion(folder, Sampling())


def test_the_forks_gated_flag_is_refused(folder):
    edit_config(folder, attention_type="default", use_gated_attention=True)
    with pytest.raises(InputError, match="use_gated_attention"):
        load_diffusion(folder, Sampling())


def test_gated_weights_under_a_plain_configuration_are_refused(folder):
    edit_config(folder, attention_type="default")
    with pytest.raises(InputError, match=r"unet: \d+ unexpected keys"):
        load_diffusion(folder, Sampling())


@pytest.mark.parametrize("path", [UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_missing_and_unexpected_weights_are_refused(folder, path):
    edit_weights(folder, path, lambda tensors: tensors.pop(sorted(tensors)[0]))
    with pytest.raises(InputError, match="1 missing keys"):
        load_diffusion(folder, Sampling())


def test_unexpected_weights_of_the_text_encoder_are_refused(folder):
    edit_weights(folder, "text_encoder/model.safetensors", lambda t: t.update({"stray": torch.zeros(1)}))
    with pytest.raises(InputError, match="1 unexpected keys, the first is stray"):
        load_diffusion(folder, Sampling())


def test_old_checkpoints_position_ids_are_no_fault(folder):
    ids = torch.arange(32)[None]
    edit_weights(
        folder,
        "text_encoder/model.safetensors",
        lambda t: t.update({"text_model.embeddings.position_ids": ids}),
    )
    load_diffusion(folder, Sampling())


TEXT = "text_encoder/model.safetensors"


def as_pickle(folder):
    """Store the U-Net as the gated one's hub folder does: a pickled .bin, and no safetensors."""
    tensors = load_file(folder / UNET)
    (folder / UNET).unlink()
    torch.save(tensors, folder / "unet/diffusion_pytorch_model.bin")
    write_sums(folder)


def test_a_pickled_gated_unet_is_loaded_as_gated(folder):
    before = load_diffusion(folder, Sampling()).unet
    as_pickle(folder)
    unet = load_diffusion(folder, Sampling()).unet
    assert unet.config.attention_type == "gated"
    assert all(torch.equal(a, b) for a, b in zip(unet.parameters(), before.parameters(), strict=True))


def test_a_pickle_that_runs_code_is_refused_and_not_run(folder, tmp_path):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    as_pickle(folder)
    torch.save({"conv_in.weight": Payload()}, folder / "unet/diffusion_pytorch_model.bin")
    write_sums(folder)
    with pytest.raises(InputError, match="unet: cannot be loaded as UNet2DConditionModel") as error:
        load_diffusion(folder, Sampling())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_the_forks_flag_is_refused_before_its_pickle_is_read(folder):
    as_pickle(folder)
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"not read")
    edit_config(folder, attention_type="default", use_gated_attention=True)
    with pytest.raises(InputError) as error:
        load_diffusion(folder, Sampling())
    assert str(error.value) == (
        f'{folder}/unet/config.json: replace the flag `use_gated_attention` by "attention_type": "gated"'
    )


@pytest.mark.parametrize("prefix", ["text_model.", ""])
def test_the_text_encoders_old_and_new_keys_are_the_same_weights(folder, prefix):
    before = load_diffusion(folder, Sampling()).text_encoder

    def rename(tensors):
        renamed = {prefix + name.removeprefix("text_model."): value for name, value in tensors.items()}
        tensors.clear()
        tensors.update(renamed)

    edit_weights(folder, TEXT, rename)
    after = load_diffusion(folder, Sampling()).text_encoder
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), before.parameters(), strict=True))


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_sharded_weights_and_half_precision_variants_are_found(folder, variant):
    """What the hub's larger folders hold: weights in several files, or under names with .fp16. alone."""
    before = load_diffusion(folder, Sampling())
    for part, model, size in (("unet", before.unet, "1MB"), ("text_encoder", before.text_encoder, "20KB")):
        for path in (folder / part).glob("*.safetensors"):
            path.unlink()
        model.half().save_pretrained(folder / part, max_shard_size=size, variant=variant)
        assert len(list((folder / part).glob("*.safetensors"))) > 1
        model.float()
    write_sums(folder)
    after = load_diffusion(folder, Sampling())
    for old, new in ((before.unet, after.unet), (before.text_encoder, after.text_encoder)):
        assert all(torch.equal(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))


def test_a_component_without_weights_is_named(folder):
    (folder / UNET).unlink()
    write_sums(folder)
    with pytest.raises(InputError, match=r"unet: no weights there, expected a \.safetensors or \.bin file"):
        load_diffusion(folder, Sampling())


def test_full_precision_goes_before_a_half_precision_variant(folder):
    (folder / "unet/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not read")
    write_sums(folder)
    load_diffusion(folder, Sampling())


def test_weights_of_another_shape_are_refused(folder):
    edit_config(folder, cross_attention_dim=48)
    with pytest.raises(InputError, match="unet"):
        load_diffusion(folder, Sampling())


def test_a_broken_weights_file_is_refused(folder):
    (folder / UNET).write_bytes(b"not safetensors")
    write_sums(folder)
    with pytest.raises(InputError, match="unet: cannot be loaded"):
        load_diffusion(folder, Sampling())


PAGE = b"<!DOCTYPE html><title>Sign in</title>"
PARTS = {"unet": UNET, "vae": "vae/diffusion_pytorch_model.safetensors", "text_encoder": TEXT}


def stored(folder, part, **options):
    """The part's weights as a pickle under the hub's name."""
    path = folder / PARTS[part]
    pickle = path.with_name(path.name.replace("model.safetensors", "model.bin"))
    if part == "text_encoder":
        pickle = path.with_name("pytorch_model.bin")
    tensors = load_file(path)
    path.unlink()
    torch.save(tensors, pickle, **options)
    return pickle


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", PARTS)
def test_pickles_of_both_kinds_are_the_same_weights(folder, part, zipped):
    before = getattr(load_diffusion(folder, Sampling()), part)
    stored(folder, part, _use_new_zipfile_serialization=zipped)
    write_sums(folder)
    after = getattr(load_diffusion(folder, Sampling()), part)
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), before.parameters(), strict=True))


@pytest.mark.parametrize("container", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", [lambda data: PAGE, lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_page_or_a_part_under_a_name_of_weights_is_one_line(folder, part, container, damage):
    path = folder / PARTS[part]
    if container != "safetensors":
        path = stored(folder, part, _use_new_zipfile_serialization=container == "zip")
    path.write_bytes(damage(path.read_bytes()))
    write_sums(folder)
    with pytest.raises(InputError, match=f"{part}: cannot be loaded") as error:
        load_diffusion(folder, Sampling())
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("name", ["tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json"])
def test_a_page_instead_of_a_tokenizers_file_is_one_line(folder, name):
    (folder / name).write_bytes(PAGE)
    write_sums(folder)
    with pytest.raises(InputError, match="tokenizer: cannot be loaded as CLIPTokenizer") as error:
        load_diffusion(folder, Sampling())
    assert "\n" not in str(error.value)
