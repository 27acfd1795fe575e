"""The page of the zoo: everything on it, nothing from outside, and usable in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rela_zoo import list_priors, prior_spec
from rela_zoo.analysis.zoo import zoo_page
from rela_zoo.cli import app
from rela_zoo.registry import PairMeasures, ZooResults

HOSTILE = "<script>alert(1)</script>\"'&"
MADE = {"date": "2026-01-02", "seconds": 3.0, "machine": 0}
OWN = {
    "identity": {"id": "x"}, "dim": 64, "seen": "no", "rows_digest": "a" * 64, "rank_me": 12.5,
    "participation_ratio": 3.5, "intrinsic_dimension": None, "spectrum": {"1": 0.5, "64": 1.0}, "knn": 0.81,
    "probe": 0.9, "few_label": 0.7, "made": MADE,
}  # fmt: skip
PAIR = {
    "cosine": 0.5, "retrieval_at_1": 0.25, "retrieval_at_5": 0.5, "retrieval_among": 100, "rows_held_out": 100,
    "strength": 0.1, "linear_cka": 0.4, "mutual_knn": 0.1, "made": MADE,
}  # fmt: skip


def results(title: str = "Small pictures", **more: Any) -> ZooResults:
    data = {
        "name": "small", "title": title, "argument": "small=DIR", "note": HOSTILE,
        "train_images": 100, "test_images": 50, "test": "a split of its own", "classes": 3, "train_probe": "b" * 64,
    }  # fmt: skip
    raw = {
        "data": data,
        "settings": {},
        "machines": [{"command": f"rela-zoo zoo build {HOSTILE}", "environment": {"cpu": HOSTILE}}],
        "priors": {"cifar10-resnet20": {**OWN, "seen": "labels"}, "random": {**OWN, "dim": 512, "knn": 0.345}},
        "pairs": [
            {**PAIR, "source": "cifar10-resnet20", "target": "random", "r2": 0.9},
            {**PAIR, "source": "random", "target": "cifar10-resnet20", "r2": -0.25},
        ],
        **more,
    }
    return ZooResults.model_validate(raw)


@pytest.fixture(scope="module")
def page() -> str:
    return zoo_page(list_priors(), [results()])


def tree(page: str) -> ElementTree.Element:
    """Every tag closed, every sign escaped: but for the script, HTML that is XML too."""
    without = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    return ElementTree.fromstring(without.removeprefix("<!DOCTYPE html>"))


def text_of(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def test_every_prior_is_there_with_its_facts(page: str) -> None:
    root = tree(page)
    bodies = {one.attrib["id"]: one for one in root.iter("tbody") if "id" in one.attrib}
    assert list(bodies) == [spec.id for spec in list_priors()]
    for spec in list_priors():
        said = text_of(bodies[spec.id])
        for fact in (spec.title, spec.licence, spec.training_data, spec.revision, spec.sha256, *spec.notes):
            assert not fact or " ".join(fact.split()) in said, (spec.id, fact)
        if spec.family != "external":
            assert f'rela_zoo.load_prior("{spec.id}")' in said
            assert f"rela.prior={spec.id}" in said
    assert "pip install" in text_of(bodies["imagenet1k-efficientnet-lite0"])


def test_what_was_measured_is_there_and_marked(page: str) -> None:
    root = tree(page)
    bodies = {one.attrib["id"]: text_of(one) for one in root.iter("tbody") if "id" in one.attrib}
    assert "81.0†" in bodies["cifar10-resnet20"]
    assert "34.5" in bodies["random"]
    assert "34.5†" not in bodies["random"]
    assert "Measured on" not in bodies["clip-rn50"]
    heat = [one for one in root.iter("table") if one.attrib.get("class") == "heat"]
    assert len(heat) == 3
    assert [text_of(cell) for cell in heat[0].iter("td")][1:] == ["·", "0.90", "-0.25", "·"]
    grounds = [cell.attrib["style"] for cell in heat[0].iter("td") if "style" in cell.attrib]
    assert grounds == ["--v:0.900", "--v:0.000"]
    assert "2026-01-02" in text_of(root)


def test_it_needs_nothing_from_outside(page: str) -> None:
    root = tree(page)
    tags = {one.tag for one in root.iter()}
    assert not tags & {"link", "img", "iframe", "object", "embed", "base", "image", "use"}
    for one in root.iter():
        assert not {"src", "srcset", "data", "action", "background"} & one.attrib.keys()
        # Links are followed by people; nothing else has an address.
        assert "href" not in one.attrib or (one.tag == "a" and one.attrib["href"].startswith(("https://", "http://")))
    style, script = (re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)[0] for tag in ("style", "script"))
    assert not re.search(r"https?:|url\(|@import", style)
    assert not re.search(r"https?:|fetch\(|import\(|XMLHttp|WebSocket", script)
    assert "default-src 'none'" in unescape(page)
    assert len(page) < 1_000_000


def test_whatever_others_wrote_is_text() -> None:
    spec = prior_spec("random").model_copy(
        update={
            "title": HOSTILE, "training_data": HOSTILE, "architecture": HOSTILE, "citation": HOSTILE,
            "notes": (HOSTILE,), "licence_link": "https://x.org/\"><script>alert(2)</script>",
        }
    )  # fmt: skip
    found = zoo_page([spec], [results(HOSTILE)], ready={"random": HOSTILE})
    assert found.count("<script>") == 1
    assert "alert(1)" in found
    assert text_of(tree(found)).count(HOSTILE) >= 8


def test_without_results_it_is_a_list() -> None:
    found = zoo_page(list_priors()[:2])
    assert "Transports between priors" not in found
    assert "0 of 2 were measured" in found


def test_data_without_labels_shows_the_rank_instead() -> None:
    bare = {key: value for key, value in OWN.items() if key not in ("knn", "probe", "few_label")}
    found = zoo_page([prior_spec("random")], [results(priors={"random": bare}, pairs=[])])
    assert "small: RankMe" in found
    assert ">12.5</span>" in found


def test_a_pair_in_one_direction_only_is_shown_as_it_is() -> None:
    one = PairMeasures.model_validate({**PAIR, "source": "random", "target": "cifar10-resnet20", "r2": 0.5})
    found = zoo_page([prior_spec("random")], [results().model_copy(update={"pairs": (one,)})])
    assert ">0.50</td>" in found


def test_the_command_writes_it(tmp_path: Path) -> None:
    own = tmp_path / "results"
    own.mkdir()
    (own / "small.json").write_text(results().model_dump_json(exclude_none=True), encoding="utf-8")
    arguments = ["zoo", "page", "--out", str(tmp_path / "site"), "--results", str(own)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "small: probe" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    (own / "small.json").write_text("{}")
    assert CliRunner().invoke(app, arguments).exit_code != 0


# What a person does with keys and mouse, and what is then to be seen; written into the page, so that it is in its dump.
DRIVEN = """
const seen = {}, every = () => [...document.querySelectorAll("table.priors tbody")];
const shownNow = () => every().filter(one => !one.hidden).map(one => one.id);
const type = text => { search.value = text; search.dispatchEvent(new Event("input")); };
seen.all = shownNow().length;
document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "/", bubbles: true, cancelable: true}));
seen.focused = document.activeElement.id;
type("CLIP vit"); seen.found = shownNow(); seen.count = document.querySelector(".count").textContent;
type("no such thing"); seen.nothing = shownNow().length; type("");
const measured = document.querySelector("[data-filter=measured]"); measured.click(); seen.measured = shownNow();
measured.click();
const head = label => [...document.querySelectorAll(".priors thead button")].find(one => one.textContent === label);
head("dim").click(); const dims = () => shownNow().map(id => document.getElementById(id).rows[0].cells[2].dataset.sort);
seen.falling = dims(); seen.sorted = head("dim").parentElement.getAttribute("aria-sort");
head("dim").click(); seen.rising = dims();
head("small: 20-NN, %").click(); seen.best = shownNow().slice(0, 3);
const toggle = document.querySelector("#random .toggle"), more = document.getElementById("more-random");
seen.closed = more.hidden; toggle.focus(); toggle.click();
seen.open = !more.hidden && toggle.getAttribute("aria-expanded") === "true" && more.offsetHeight > 50;
const maps = [...document.querySelectorAll("[data-measure]")]; seen.maps = maps.map(one => !one.hidden);
document.querySelector("input[value=retrieval_at_1]").click(); seen.others = maps.map(one => !one.hidden);
seen.fits = document.documentElement.scrollWidth <= innerWidth; seen.width = innerWidth;
seen.reachable = [...document.querySelectorAll("button, input, select, a[href]")].every(one => one.tabIndex >= 0);
seen.dark = matchMedia("(prefers-color-scheme: dark)").matches;
seen.paper = getComputedStyle(document.body).backgroundColor;
const out = document.createElement("pre"); out.id = "seen"; out.textContent = JSON.stringify(seen);
document.body.append(out);
"""


def drive(page: str, folder: Path, width: int, *more: str) -> dict[str, Any]:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{{{DRIVEN}}}</script></body>"), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder / 'u'}"]
    command += [f"--window-size={width},900", *more, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, done.stdout[-1000:]
    return dict(json.loads(unescape(found[1])))


def test_a_browser_searches_sorts_and_opens(page: str, tmp_path: Path) -> None:
    seen = drive(page, tmp_path, 1280)
    priors = list_priors()
    assert seen["all"] == len(priors)
    assert seen["focused"] == "search"
    assert set(seen["found"]) == {"clip-vit-b16", "clip-vit-b32", "clip-vit-l14"}
    assert seen["count"] == f"3 of {len(priors)} priors"
    assert seen["nothing"] == 0
    assert set(seen["measured"]) == {"cifar10-resnet20", "random"}
    known = sorted(spec.dim for spec in priors if spec.dim)
    assert seen["falling"] == [*map(str, reversed(known)), *[""] * (len(priors) - len(known))]
    assert seen["rising"] == [*map(str, known), *[""] * (len(priors) - len(known))], "the unknown stay below"
    assert seen["sorted"] == "descending"
    assert seen["best"][:2] == ["cifar10-resnet20", "random"]
    assert seen["closed"]
    assert seen["open"]
    assert seen["maps"] == [True, False, False]
    assert seen["others"] == [False, True, False]
    assert seen["reachable"]
    assert seen["fits"]


def test_it_fits_a_phone_and_the_dark(page: str, tmp_path: Path) -> None:
    seen = drive(page, tmp_path, 390, "--force-dark-mode", "--blink-settings=preferredColorScheme=0")
    assert seen["width"] <= 500
    assert seen["fits"]
    assert seen["open"]
    assert seen["dark"]
    assert seen["paper"] == "rgb(22, 25, 29)"
