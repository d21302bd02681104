"""The page in a real Chromium, opened from disk: it shows, sorts, filters and draws what the run holds."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import contact_sheets
from evaluation.report import __main__ as page
from formats import cli
from tests import pages
from tests.browser import Browser, browser, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

METHODS = ["real", "gligen", "boxdiff", "hcma"]
COUNT = 200
LAYOUTS = pages.layouts_of(COUNT)
WIDE, PHONE = (1280, 1000), (390, 844)


def call(main: Callable[[], None], arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["program", *arguments])
        cli.run(main)


def build(folder: Path, *more: str) -> Path:
    call(contact_sheets.main, pages.strip_arguments(folder, METHODS))
    call(page.main, pages.page_arguments(folder, METHODS, *more))
    return folder / "report.html"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    pages.write_run(folder, LAYOUTS, METHODS)
    return folder


@pytest.fixture(scope="module")
def built(run) -> Path:
    return build(run)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.fixture
def tab(chromium, built):
    """The page at its first section, on a light desktop; it must end without a complaint in the console."""
    chromium.prefers("light")
    chromium.window(*WIDE)
    chromium.open(built)
    chromium.run("localStorage.clear()")
    chromium.errors()
    yield chromium
    assert chromium.errors() == []


def images(tab: Browser, words: str = "") -> None:
    tab.run("location.hash = arguments[0]", f"#images?{words}")
    until(
        tab, "document.querySelector('.row') !== null || document.getElementById('count').textContent.startsWith('0')"
    )


def until(tab: Browser, condition: str) -> None:
    deadline = time.monotonic() + 10
    while not tab.run(f"return {condition}"):
        assert time.monotonic() < deadline, f"never: {condition}"
        time.sleep(0.03)


def shown(tab: Browser) -> list[int]:
    """Ids of the selected layouts, in order."""
    return tab.run("return grid.selection.shown.map((layout) => Number(LAYOUTS.ids[layout]))")


def texts(tab: Browser, selector: str) -> list[str]:
    return tab.run("return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)", selector)


def region_clip(method: str) -> np.ndarray:
    """The mean over a layout's boxes, NaN without any."""
    scores = pages.scores_of(LAYOUTS, METHODS.index(method))
    means = scores[scores["object"] >= 0].groupby("id")["clip"].mean()
    return means.reindex([row["id"] for row in LAYOUTS]).to_numpy()


def test_every_section_opens_without_a_complaint(tab, built) -> None:
    for section, sign in (("results", "table"), ("figures", "img"), ("images", ".row")):
        tab.open(built, f"#{section}")
        until(tab, f"document.querySelector('#{section} {sign}') !== null")
        assert tab.run(
            "return [...document.querySelectorAll('main > section')].filter((s) => !s.hidden).map((s) => s.id)"
        ) == [section]
        assert tab.errors() == []
    assert texts(tab, "#run") == ["try <b>"]
    assert texts(tab, "#caveat") == ["Nothing is claimed."]


def test_a_hostile_caption_is_text_and_runs_nothing(tab) -> None:
    tab.run("window.hacked = () => { window.broken = true; }")
    images(tab)
    assert texts(tab, '[data-place="0"] .caption') == [pages.HOSTILE]
    assert tab.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert tab.run("return window.broken === undefined")
    assert "<b>two</b>" in texts(tab, "tbody th")


def test_the_policy_lets_no_other_script_run(tab) -> None:
    tab.run(
        "const script = document.createElement('script'); script.textContent = 'window.broken = true';"
        "document.body.append(script)"
    )
    assert tab.run("return window.broken === undefined")
    assert any("Content Security Policy" in message for message in tab.errors())


def test_a_column_sorts_down_up_and_back(tab) -> None:
    head = "#table-table1 thead th:nth-child(2)"
    orders = []
    for _ in range(3):
        tab.point(f"{head} button", click=True)
        orders.append(
            (
                tab.run("return document.querySelector(arguments[0]).getAttribute('aria-sort')", head),
                texts(tab, "tbody th"),
            )
        )
    assert orders == [
        ("ascending", ["real", "<b>two</b>", "nine", "ten", "never run"]),
        ("descending", ["ten", "nine", "<b>two</b>", "real", "never run"]),
        (None, ["real", "nine", "ten", "never run", "<b>two</b>"]),
    ]
    last = "#table-table1 thead th:nth-child(3) button"
    tab.point(last, click=True)
    assert texts(tab, "tbody th") == ["nine", "<b>two</b>", "real", "ten", "never run"]
    tab.point(last, click=True)
    assert texts(tab, "tbody th") == ["real", "<b>two</b>", "nine", "ten", "never run"]


def test_filters_leave_the_layouts_that_fit(tab) -> None:
    images(tab)
    assert shown(tab) == [row["id"] for row in LAYOUTS]
    tab.type("[name=q]", "RED picture")
    until(tab, "document.getElementById('count').textContent.startsWith('39 ')")
    assert shown(tab) == [row["id"] for row in LAYOUTS if "red" in row["caption"] and "picture" in row["caption"]]
    tab.type("[name=least]", "2")
    tab.type("[name=most]", "2")
    tab.type("[name=category]", "dog")
    wanted = [
        row["id"]
        for row in LAYOUTS
        if "red" in row["caption"]
        and len(row["objects"]) == 2
        and "dog" in {thing["phrase"] for thing in row["objects"]}
    ]
    until(tab, f"document.getElementById('count').textContent.startsWith('{len(wanted)} ')")
    assert shown(tab) == wanted
    tab.point("#filter [type=reset]", click=True)
    assert len(shown(tab)) == COUNT
    tab.type("[name=q]", "no such words")
    until(tab, "document.getElementById('count').textContent.startsWith('0 ')")
    assert texts(tab, ".row") == []


def test_worst_and_best_are_those_of_the_difference(tab) -> None:
    gap = region_clip("hcma") - region_clip("boxdiff")
    ids = np.array([row["id"] for row in LAYOUTS])
    known = ids[~np.isnan(gap)]
    images(tab, "of=hcma&minus=boxdiff&order=worst")
    order = shown(tab)
    assert order[: len(known)] == known[np.argsort(gap[~np.isnan(gap)], kind="stable")].tolist()
    assert set(order[len(known) :]) == set(ids[np.isnan(gap)])
    assert texts(tab, '[data-place="0"] .value') == [f"{np.nanmin(gap):.3f}".replace("-", "−")]
    images(tab, "of=hcma&minus=boxdiff&order=best")
    assert shown(tab)[0] == ids[np.nanargmax(gap)]
    (count,) = texts(tab, "#count")
    assert f"higher in {(gap > 0).sum()}, lower in {(gap < 0).sum()}" in count
    images(tab, "of=hcma&minus=boxdiff&low=0.2&high=0.4")
    assert shown(tab) == ids[(gap >= 0.2) & (gap <= 0.4)].tolist()


def test_a_choice_that_sends_a_change_alone_is_applied(tab) -> None:
    """As programs that fill forms in for people may do."""
    images(tab)
    tab.type("[name=category]", "dog", event="change")
    wanted = [row["id"] for row in LAYOUTS if "dog" in {thing["phrase"] for thing in row["objects"]}]
    until(tab, f"document.getElementById('count').textContent.startsWith('{len(wanted)} ')")
    assert shown(tab) == wanted
    tab.point("#filter [type=reset]", click=True)


def test_bands_choose_layouts_and_boxes_and_the_means_follow(tab, built) -> None:
    images(tab)
    assert tab.run("return FACETS.map(({ key }) => key)") == [
        "objects",
        "size",
        "overlap",
        "tags.level",
        "tags.</script>",
    ]
    texts_of = "return [...document.querySelector(arguments[0]).options].map((one) => one.textContent)"
    small = sum(len(row["objects"]) > 1 for row in LAYOUTS)
    every = sum(len(row["objects"]) for row in LAYOUTS)
    sizes = ["any", f"0.0625 to 0.1875 ({small} boxes)", f"0.375 or more ({every - small} boxes)"]
    assert tab.run(texts_of, "[name='by-size']") == sizes
    assert tab.run(texts_of, "[name='by-tags.</script>']") == ["any", "{{script}} (100)", "<b> (100)"]
    tab.type("[name='by-size']", "0")
    until(tab, f"document.getElementById('count').textContent.startsWith('{small} ')")
    assert shown(tab) == [row["id"] for row in LAYOUTS if len(row["objects"]) > 1]
    clips = [pages.scores_of(LAYOUTS, METHODS.index(method)) for method in ("hcma", "gligen")]
    second, first = (scores[scores["object"] == 1].set_index("id")["clip"] for scores in clips)
    gap = second - first
    signed = f"{gap.mean():+.3f}".replace("-", "−")
    assert f"mean {signed}; higher in {(gap > 0).sum()}, lower in {(gap < 0).sum()}" in texts(tab, "#count")[0]
    tab.type("[name='by-tags.level']", "2")
    wanted = [row["id"] for row in LAYOUTS if len(row["objects"]) > 1 and row["tags"]["level"] == 2]
    until(tab, f"document.getElementById('count').textContent.startsWith('{len(wanted)} ')")
    assert shown(tab) == wanted
    address = tab.run("return location.hash")
    tab.open(built, address)
    until(tab, "document.querySelector('.row') !== null")
    assert shown(tab) == wanted
    tab.point("#filter [type=reset]", click=True)
    assert len(shown(tab)) == COUNT


def test_a_bar_of_the_histogram_chooses_its_range(tab) -> None:
    images(tab)
    bar = tab.run("return [...document.querySelectorAll('.bars i')].findIndex((bar) => bar.title.endsWith(': 9'))") + 1
    tab.point(f".bars i:nth-child({bar})", click=True)
    assert len(shown(tab)) == 9


@pytest.mark.parametrize(("of", "minus"), [("boxdiff", "hcma"), ("hcma", "boxdiff")])
def test_the_outermost_bar_holds_the_farthest_layout(tab, of: str, minus: str) -> None:
    """Means over three boxes: more digits than the range is written with."""
    overlaps = [pages.scores_of(LAYOUTS, METHODS.index(method)).set_index("id")["best_iou"] for method in (of, minus)]
    gap = (overlaps[0] - overlaps[1]).groupby("id").agg(["count", "mean"]).query("count == 3")["mean"]
    farthest = gap.abs().idxmax()
    images(tab, f"score=best_iou&least=3&of={of}&minus={minus}")
    tab.point(f".bars i:nth-child({41 if gap[farthest] > 0 else 1})", click=True)
    assert farthest in shown(tab)
    assert 0 < len(shown(tab)) < 10


def test_a_view_is_in_the_address(tab, built) -> None:
    images(tab)
    tab.type("[name=order]", "worst")
    tab.type("[name=q]", "red")
    until(tab, "location.hash.includes('q=red')")
    address, order = tab.run("return location.hash"), shown(tab)
    tab.open(built, address)
    until(tab, "document.querySelector('.row') !== null")
    assert shown(tab) == order
    tab.open(built, "#images?score=nonsense&order=%3Cb%3E&unknown=1")
    assert len(shown(tab)) == COUNT


def seen(tab: Browser, folder: Path) -> list[list[int]]:
    """The colours in the middle of the third layout's images, as the screen has them."""
    tab.screenshot(folder / "screen.png")
    pixels = np.asarray(Image.open(folder / "screen.png").convert("RGB"))
    places = tab.run(
        "return [...document.querySelectorAll(`[data-place='2'] .picture`)].map((node) => node.getBoundingClientRect())"
        ".map((box) => [box.x + box.width / 2, box.y + box.height / 2].map(Math.round))"
    )
    return [pixels[y, x].tolist() for x, y in places]


def test_each_column_shows_its_methods_image(tab, tmp_path) -> None:
    images(tab)
    np.testing.assert_allclose(seen(tab, tmp_path), pages.COLOURS, atol=10)


def test_boxes_lie_over_the_row_under_the_pointer(tab) -> None:
    images(tab)
    inside = '[data-place="3"] [data-method] rect:not(.halo)'
    assert texts(tab, inside) == []
    tab.point('[data-place="3"] [data-method="2"]')
    until(tab, f"document.querySelectorAll('{inside}').length === {3 * len(METHODS)}")
    places = tab.run(
        "const cell = document.querySelector(`[data-place='3'] [data-method='2']`);"
        "const image = cell.querySelector('.picture').getBoundingClientRect();"
        "return [...cell.querySelectorAll('rect:not(.halo)')].map((node) => node.getBoundingClientRect())"
        ".map((box) => [box.left - image.left, box.top - image.top, box.right - image.left, box.bottom - image.top])"
        ".map((box) => box.map((edge) => edge / image.width))"
    )
    np.testing.assert_allclose(places, [thing["box"] for thing in LAYOUTS[3]["objects"]], atol=0.01)
    scores = pages.scores_of(LAYOUTS, 2)
    found = scores[(scores["id"] == 103) & (scores["object"] >= 0)].sort_values("object")["success"].tolist()
    missed = tab.run(
        "return [...document.querySelectorAll(`[data-place='3'] [data-method='2'] rect:not(.halo)`)].map((node) =>"
        " getComputedStyle(node).strokeDasharray !== 'none')"
    )
    assert [not dashed for dashed in missed] == found
    tab.point("#count")
    until(tab, f"document.querySelectorAll('{inside}').length === 0")


def test_boxes_always_lie_over_every_row(tab) -> None:
    images(tab)
    tab.point("[name=boxes]", click=True)
    rows = tab.run("return document.querySelectorAll('.row').length")
    assert tab.run("return document.querySelectorAll('.row.boxed').length") == rows > 3


def test_the_keyboard_reaches_everything(tab) -> None:
    tab.press("3")
    until(tab, "document.activeElement === document.getElementById('grid')")
    assert tab.run("return document.getElementById('grid').getAttribute('aria-activedescendant')") == "cell-0-0"
    tab.press("ArrowDown", "ArrowDown", "j", "ArrowRight", "ArrowRight")
    assert tab.run("return document.querySelector('.active').id") == "cell-3-2"
    assert (
        tab.run('return document.querySelectorAll(\'[data-place="3"] [data-method="0"] rect:not(.halo)\').length') == 3
    )
    tab.press("Enter")
    assert tab.run("return document.getElementById('detail').open")
    assert texts(tab, "#detail-title") == [LAYOUTS[3]["caption"]]
    assert len(texts(tab, "#detail figure")) == len(METHODS)
    tab.press("ArrowRight", "ArrowRight")
    assert texts(tab, "#detail-title") == [LAYOUTS[5]["caption"]]
    tab.point("#detail [aria-label='Previous layout']", click=True)
    tab.press("j", "Enter")
    assert texts(tab, "#detail-title") == [LAYOUTS[4]["caption"]]
    tab.press("Escape")
    until(tab, "document.getElementById('detail').open === false")
    until(tab, "document.activeElement === document.getElementById('grid')")
    tab.press("End")
    until(tab, f"document.getElementById('cell-{COUNT - 1}-2') !== null")
    assert tab.run("return document.querySelectorAll('.row').length") < 30
    tab.press("/")
    assert tab.run("return document.activeElement.name") == "q"
    tab.press("d", "1")
    assert tab.run("return document.activeElement.value") == "d1"
    tab.press("Escape", "?")
    assert tab.run("return document.getElementById('keys').open")
    tab.press("Escape")
    tab.press("1")
    until(tab, "document.body.dataset.section === 'results'")
    tab.press("w")
    assert tab.run("return location.hash") == "#results"


def test_what_was_typed_does_not_call_back_a_section_that_was_left(tab) -> None:
    """The filter goes into the address 120 ms after the last letter; by then the results are shown."""
    images(tab)
    tab.press("/")
    tab.press("d", "o", "g", "Escape", "1")
    time.sleep(0.3)
    assert tab.run("return [location.hash, document.body.dataset.section]") == ["#results", "results"]


def test_details_say_what_was_measured(tab) -> None:
    images(tab)
    tab.point('[data-place="1"] [data-method="3"]', click=True)
    scores = pages.scores_of(LAYOUTS, 3)
    box = scores[(scores["id"] == 101) & (scores["object"] == 0)].iloc[0]
    line = tab.run(
        "return [...document.querySelectorAll('#detail figure:nth-child(4) li span')].map((node) => node.textContent)"
    )
    expected = [f"{value:.3f}".replace("-", "−") for value in (box["clip"], box["best_iou"])]
    assert line == ["dog", *expected, "✓" if box["success"] else "✗"]
    assert texts(tab, "#detail .facts")[0].endswith(
        "Of every box: CLIP, overlap, whether the detector found it (dashed: not)."
    )


def test_words_of_the_caption_bear_the_colour_of_their_box(tab) -> None:
    images(tab)
    assert texts(tab, '[data-place="2"] mark') == [LAYOUTS[2]["objects"][0]["phrase"]]


def brightness(tab: Browser) -> float:
    colour = tab.run("return getComputedStyle(document.body).backgroundColor")
    return float(np.mean([float(part) for part in re.findall(r"[\d.]+", colour)][:3]))


def test_it_is_dark_where_the_system_is_and_where_it_is_told(tab) -> None:
    assert brightness(tab) > 200
    tab.prefers("dark")
    assert brightness(tab) < 60
    tab.point("#theme", click=True)
    assert brightness(tab) > 200
    tab.prefers("light")
    tab.point("#theme", click=True)
    assert brightness(tab) < 60
    tab.press("d")
    assert brightness(tab) > 200


@pytest.mark.parametrize("section", ["results", "figures", "images"])
def test_a_phone_scrolls_no_page_sideways(tab, built, section) -> None:
    tab.window(*PHONE, phone=True)
    tab.open(built, f"#{section}")
    assert tab.run("return innerWidth") == PHONE[0]
    assert tab.run("return document.documentElement.scrollWidth") <= PHONE[0]
    small = tab.run(
        "const sizes = [...document.querySelectorAll('main p, main td')].map((node) => getComputedStyle(node).fontSize);"
        "return Math.min(...sizes.map(parseFloat))"
    )
    assert small >= 11


def test_a_tap_shows_boxes_and_a_second_one_the_layout(tab, built) -> None:
    tab.window(*PHONE, phone=True)
    tab.open(built, "#images")
    cell = '[data-place="1"] [data-method="1"]'
    tab.point(cell, click=True, kind="touch")
    until(tab, f"document.querySelectorAll('{cell} rect:not(.halo)').length === 1")
    assert not tab.run("return document.getElementById('detail').open")
    tab.point(cell, click=True, kind="touch")
    until(tab, "document.getElementById('detail').open")


def test_images_beside_the_page_are_loaded_as_they_come_into_sight(chromium, run, tmp_path) -> None:
    shutil.copytree(run, tmp_path / "moved")
    path = build(tmp_path / "moved", "--embed", "0")
    chromium.window(*WIDE)
    chromium.open(path, "#images")
    until(chromium, "document.querySelector('.row') !== null")
    np.testing.assert_allclose(seen(chromium, tmp_path), pages.COLOURS, atol=10)
    assert len(texts(chromium, ".row")) < 15
    assert chromium.run("return document.getElementById('lost').hidden")
    assert chromium.errors() == []
    shutil.rmtree(tmp_path / "moved/report")
    chromium.open(path, "#images?order=best")
    until(chromium, "!document.getElementById('lost').hidden")
    assert texts(chromium, "#lost")[0].startswith("No image at report/strips/0000/")
    assert all("ERR_FILE_NOT_FOUND" in message for message in chromium.errors())


def test_a_run_without_boxes_shows_its_images(chromium, tmp_path) -> None:
    pages.write_run(tmp_path, pages.layouts_of(5, most=0), METHODS)
    chromium.window(*WIDE)
    chromium.open(build(tmp_path), "#images")
    until(chromium, "document.querySelector('.row') !== null")
    assert len(texts(chromium, ".row")) == 5
    assert texts(chromium, "[name=score] option") == ["Image CLIP"]
    chromium.point('[data-place="1"] [data-method="1"]', click=True)
    assert texts(chromium, "#detail .facts") == ["Layout 101, image 11."]
    assert chromium.errors() == []


@pytest.mark.slow
def test_thirty_thousand_layouts_of_twelve_methods_stay_usable(chromium, tmp_path) -> None:
    methods, layouts = [f"method_{number}" for number in range(12)], pages.layouts_of(30_000, most=14)
    pages.write_run(tmp_path, layouts, methods, images=False)
    pages.write_index(tmp_path / "report/strips/0000.json", layouts, methods)
    chromium.window(*WIDE)
    took = {}
    for name, step, condition in (
        ("build", lambda: call(page.main, pages.page_arguments(tmp_path, methods)), "true"),
        ("open", lambda: chromium.open(tmp_path / "report.html", "#images"), "document.querySelector('.row') !== null"),
        ("search", lambda: chromium.type("[name=q]", "30099"), "grid.selection.shown.length === 1"),
        ("all again", lambda: chromium.type("[name=q]", ""), "grid.selection.shown.length === 30000"),
        ("order", lambda: chromium.type("[name=order]", "worst"), "grid.selection.filter.order === 'worst'"),
        ("go to the grid", lambda: chromium.press("3"), "document.activeElement === GRID"),
        ("go to the end", lambda: chromium.press("End"), "document.getElementById('cell-29999-0') !== null"),
    ):
        began = time.monotonic()
        step()
        until(chromium, condition)
        took[name] = time.monotonic() - began
        assert len(texts(chromium, ".row")) < 20
    size = (tmp_path / "report.html").stat().st_size
    print(f"\n{size / 1e6:.1f} MB;", ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()))
