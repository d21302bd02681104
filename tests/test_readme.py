"""The README shows what was measured, and its example works as it stands."""

import csv
import json
import re
import statistics
from pathlib import Path

import pytest

from formats.layouts import Layout, Object
from hcma.sampling.diffusion import Sampling, initial_noise, load_diffusion
from tests.tiny import write_tiny
from workflow.scripts import reference

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "name"), [(page, name) for page, blocks in reference.BLOCKS.items() for name in blocks]
)
def test_blocks_are_those_of_the_reference(page, name, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    block = reference.BLOCKS[page][name]()
    assert f"<!-- {name} -->\n{block}\n<!-- /{name} -->" in (ROOT / page).read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(page) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_card_is_of_the_weights_that_are_shipped() -> None:
    folder = ROOT / "weights/miniature"
    card = json.loads((folder / "weights.json").read_text())
    from formats.files import sha256

    assert {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")} == set(card["sha256"])
    assert all(sha256(folder / name) == digest for name, digest in card["sha256"].items())
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) < 40e6


def test_the_example_method_runs(tmp_path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    sd = load_diffusion(write_tiny(tmp_path / "model", gated=True), Sampling(steps=2))
    layouts = [Layout(1, 1, "a cat", (Object("cat", (0.1, 0.1, 0.9, 0.9)),))]
    images = names["generate"](sd, layouts, initial_noise(layouts, 0, sd.latent_shape_CHW), names["Params"]())
    assert images.shape == (1, 3, sd.size, sd.size)


def test_every_make_target_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))]
    named = {
        name for page in pages for name in re.findall(r"(?:^ *|`|; )make ([a-z]+(?:-[a-z]+)*)", page, re.MULTILINE)
    }
    assert named and named <= targets


def test_what_is_said_of_the_readings_is_what_their_table_says() -> None:
    lines = json.loads((ROOT / "results/reference/readings/readings.json").read_text())["rows"]
    rows = [{key: cell.get("value") for key, cell in line.items()} for line in lines]
    page = " ".join((ROOT / "docs/reproduction.md").read_text(encoding="utf-8").split())
    compared = [row for row in rows if row.get("against")]
    over = {row["method"]: row for row in compared if row["against"] == "gligen_sd"}
    assert f"the study's {len(compared)} comparisons" in page
    told = {name: row["image_clip"] for name, row in over.items() if row["image_clip_different"] == "yes"}
    # Told apart, and of one sign: the difference that is tested, and that of the other training.
    named = {
        "tau_0_3": ("+0.057", "+0.052"),
        "schedule_sqrt_one_minus_acp": ("+0.045", "+0.002"),
        "box_feature_fourier_mlp": ("+0.035", "+0.026"),
        "weights_equal_norm": ("+0.013", "+0.007"),
    }
    spread = {line["method"]["value"]: line for line in lines if line.get("against", {}).get("value") == "gligen_sd"}
    for name, texts in named.items():
        cell = spread[f"hcma_{name}"]["image_clip"]
        assert tuple(f"{cell[end]:+.3f}" for end in ("most", "least")) == texts
        assert f"{texts[0]}, {texts[1]}" in page or f"{texts[0]}, and {texts[1]} with the" in page
    assert {*told} == {f"hcma_{name}" for name in named}
    aligned = {name: row for name, row in spread.items() if not name.endswith("alignment_off")}
    mixed = [name for name, row in aligned.items() if row["image_clip"]["least"] < 0 < row["image_clip"]["most"]]
    assert {*mixed} == {"hcma", "hcma_schedule_sigma2", "hcma_weights_conflict_free", "hcma_denoiser_fuser"}
    assert [name for name, row in aligned.items() if row["image_clip"]["most"] < 0] == ["hcma_tau_1_0"]
    assert not [name for name, row in spread.items() if row["image_fid"]["most"] < 0]
    assert "Image FD** no reading lowers against GLIGEN with both trainings" in page
    table = json.loads((ROOT / "results/reference/readings/crops.json").read_text())
    crops = {row["method"]["value"]: (row["region_fid"]["value"], row["region_clip"]["value"]) for row in table["rows"]}
    pairs = {row: f"{distance:.1f} and {cosine:.3f}" for row, (distance, cosine) in crops.items()}
    assert f"region FD {pairs['sd14'].replace('and', 'and region CLIP')};" in page
    counts = re.findall(r"detected crops\) (\d+ of \d+)", " ".join(table["notes"]))
    assert f"({counts[0]} regions, the rest at the layout's boxes) {pairs['sd14_detected']}" in page
    excited = (pairs["attend_and_excite"], f"{pairs['attend_and_excite_detected']} ({counts[1]})")
    assert f"Attend-and-Excite {' becomes '.join(excited)}; GLIGEN has {pairs['gligen_sd']}" in page
    shares = {row["method"]: row.get("opposed_steps") for row in rows if not row.get("against")}
    assert f"{100 * shares['hcma_weights_conflict_free']:.0f} % of the aligned steps" in page
    assert f"in {100 * shares['hcma_weights_equal_norm']:.0f} % (" in page


def test_what_is_said_of_the_family_is_what_its_tables_say() -> None:
    kept = ROOT / "results/reference/extras"
    family, adherence = (
        {row["method"]["value"]: row for row in json.loads((kept / f"{name}.json").read_text())["rows"]}
        for name in ("family", "adherence")
    )
    page = " ".join((ROOT / "docs/methods.md").read_text(encoding="utf-8").split())
    guided = ["gligen_attend_and_excite", "gligen_boxdiff", "gligen_layout_guidance", "attention_refocusing"]
    alone = adherence["gligen_sd"]["ap50"]
    assert all(adherence[row]["ap50"]["value"] < alone["value"] + alone["standard_error"] for row in guided)
    distances = sorted(family[row]["image_fid"]["value"] for row in guided)
    assert (
        f"from {family['gligen_sd']['image_fid']['value']:.2f} to between {distances[0]:.2f} and {distances[-1]:.2f}"
        in page
    )
    colours = sorted(adherence[row]["region_colour"]["value"] for row in guided)
    said = f"{colours[0]:.3f} to {colours[-1]:.3f} have their colour, and"
    said += f" {adherence['gligen_sd']['region_colour']['value']:.3f} with"
    assert said in page


def test_what_is_said_of_five_trainings_is_what_they_gave() -> None:
    rows = json.loads((ROOT / "results/reference/readings/default_trainings.json").read_text())
    gligen = {name: cell["value"] for name, cell in rows.pop("gligen_sd").items()}
    over = {name: [row[name]["value"] - gligen[name] for row in rows.values()] for name in gligen}
    page = " ".join((ROOT / "docs/reproduction.md").read_text(encoding="utf-8").split())
    *first, last = [f"{value:+.3f}" for value in over["image_clip"]]
    mean, deviation = statistics.mean(over["image_clip"]), statistics.stdev(over["image_clip"])
    said = f"over five of them its image CLIP minus GLIGEN's is {mean:+.3f} ± {deviation:.3f}"
    for other in (README, (ROOT / "docs/results.md").read_text(encoding="utf-8")):
        assert said in " ".join(other.split())
    assert f"is {', '.join(first)} and {last}, mean {mean:+.3f}, standard deviation {deviation:.3f};" in page
    for name, text in (("image_fid", "Image FD is worse in all five, by"), ("region_fid", "and region FD, by")):
        assert f"{text} {min(over[name]):.2f} to {max(over[name]):.2f}" in page
    losses = [row["heldout_loss"] for row in rows.values()]
    assert f"is lower than the first's ({losses[1]:.3f}, {losses[0]:.3f})" in page
    # The table's own row is the first of them.
    table = json.loads((ROOT / "results/reference/readings/trainings.json").read_text())["rows"]
    (cell,) = [line["image_clip_trainings"] for line in table if "image_clip_trainings" in line]
    assert cell["value"] == pytest.approx(mean) and cell["standard_error"] == pytest.approx(deviation)


@pytest.mark.parametrize(("trained", "name"), [("fusers", "fuser"), ("the whole U-Net", "unet")])
def test_held_out_noise_losses_are_those_of_the_kept_curves(trained, name) -> None:
    with open(ROOT / f"results/reference/readings/train/denoiser_{name}.csv", newline="") as file:
        curve = {int(row["step"]): float(row["heldout_noise"]) for row in csv.DictReader(file) if row["heldout_noise"]}
    line = f"| {trained} | " + " | ".join(f"{curve[step]:.4f}" for step in (0, 48, 96, 144, 192)) + " |"
    assert line in (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert curve[192] < curve[0]
