"""The page in a real headless Chromium: drawn, in both schemes, on a phone, by keyboard, and without a violation."""

import base64
import itertools
import json
import re

import pytest

from nightly.records.verdict import Outcome
from tests.support.browser import CHROMIUM, DRIVER, browsing
from tests.support.labelled_nights import write_labelled_night
from tests.support.written_nights import write_canary, write_night, write_release

pytestmark = [
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed"),
    pytest.mark.integration,
    pytest.mark.slow,
]

BACKGROUND = "return getComputedStyle(document.body).backgroundColor"
# The contrast of every text with what is behind it (WCAG 2), those under 4.5: their text and their contrast.
FAINT = """
const rgb = (colour) => { const c = document.createElement("canvas").getContext("2d");
  c.fillStyle = colour; c.fillRect(0, 0, 1, 1); return c.getImageData(0, 0, 1, 1).data; };
const light = (colour) => { const [r, g, b] = [...rgb(colour)].slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = (e) => { for (; e; e = e.parentElement) { const b = getComputedStyle(e).backgroundColor;
  if (rgb(b)[3]) return b; } return "white"; };
return [...document.querySelectorAll("main *")].filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 &&
  n.textContent.trim()) && e.checkVisibility()).map((e) => { const style = getComputedStyle(e);
  const [a, b] = [light(e.closest("svg") ? style.fill : style.color), light(behind(e))];
  return [e.textContent.trim().slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; })
  .filter(([, contrast]) => contrast < 4.5);
"""


@pytest.fixture
def held(paths):
    """Two released nights, then a held one; its path."""
    for day in range(2):
        write_night(paths, day, Outcome.RELEASED)
    write_release(paths, 1456800000)
    write_canary(paths, 1456800100)
    return f"/nightly/taxi/nights/{write_night(paths, 2, Outcome.HELD_DATA)}"


@pytest.fixture
def browser(site, token, tmp_path):
    with browsing(tmp_path / "profile") as browser:
        browser.open(f"{site}/around")
        browser.cookie("_token", token("VIEWER"))
        yield browser


@pytest.mark.parametrize("dark", [False, True])
def test_every_page_is_drawn_in_both_schemes(browser, site, held, dark):
    for path in ["/nightly/", "/nightly/taxi", held]:
        browser.look(1200, 900, dark)
        browser.open(site + path)
        assert browser.run("return matchMedia('(prefers-color-scheme: dark)').matches") is dark
        brightness = sum(json.loads(browser.run(BACKGROUND).replace("rgb(", "[").replace(")", "]")))
        assert (brightness < 200) is dark
        assert browser.run(FAINT) == []
        assert browser.errors() == []


@pytest.mark.parametrize("kind", ["binary", "classes", "number"])
def test_a_night_of_each_kind_is_readable_in_both_schemes_and_on_a_phone(browser, site, paths, kind):
    for day in range(2):
        night = f"/nightly/taxi/nights/{write_labelled_night(paths, day, kind)}"
    write_release(paths, 1456800000, run_id=night.rpartition("/")[2]).save(
        paths.nights / "taxi" / night.rpartition("/")[2] / "release.json"
    )
    pages = [night, "/nightly/taxi/releases/1456800000"]
    browser.look(390, 844)
    for path in pages:
        browser.open(site + path)
        assert browser.run("return document.documentElement.scrollWidth") == 390, path
    for path, dark in itertools.product(pages, (False, True)):
        browser.look(1280, 900, dark)
        browser.open(site + path)
        browser.run("for (const fold of document.querySelectorAll('details')) fold.open = true")
        assert browser.run("return document.querySelectorAll('.confusion, .plot[aria-label*=redict]').length"), path
        assert browser.run(FAINT) == []
        assert browser.errors() == []


def test_a_held_night_fits_a_phone(browser, site, held):
    browser.look(390, 844)
    for path in ["/nightly/", "/nightly/taxi", held]:
        browser.open(site + path)
        assert browser.run("return document.documentElement.scrollWidth") == 390
    reason = browser.run("return document.querySelector('.reasons').getBoundingClientRect().top")
    assert reason < 844  # why it was held stands on the first screen


def test_the_plots_have_a_size_and_words(browser, site, held):
    browser.open(site + held)
    plots = browser.run(
        "return [...document.querySelectorAll('svg.plot')].filter((s) => s.checkVisibility())"
        ".map((s) => [s.getBoundingClientRect().width, s.getAttribute('aria-label')])"
    )
    assert len(plots) >= 2
    assert all(width > 150 and label for width, label in plots)
    assert browser.run("return document.querySelectorAll('rect.dot.over').length") >= 1  # the held night is a square


def test_the_keyboard_reaches_what_the_mouse_does(browser, site, held):
    browser.open(site + held)
    browser.keys("\ue004")
    assert browser.run("return document.activeElement.textContent") == "Skip to the content"
    browser.keys("\ue007")
    browser.keys("\ue004")
    assert browser.run("return document.activeElement.getAttribute('href')") == "#feature-payment_type"
    browser.keys("\ue007")
    assert browser.run("return document.querySelector(':target h3').textContent").startswith("payment_type")


def test_in_airflows_frame_it_follows_airflows_theme_and_a_run_leaves_the_frame(browser, site, held):
    browser.run(
        "const f = document.createElement('iframe');"
        "f.setAttribute('sandbox', 'allow-scripts allow-same-origin allow-forms allow-downloads');"
        f"f.src = '{held}'; document.body.append(f); return new Promise((done) => f.onload = () => done(true))"
    )
    frame = "document.querySelector('iframe').contentDocument"
    assert browser.run(f"return {frame}.documentElement.dataset.theme") == "dark"
    browser.run(f"const a = {frame}.querySelector('[data-airflow]'); a.href = '/nightly/-/page.js'; a.click()")
    assert browser.run("return location.pathname") == "/nightly/-/page.js"


def test_on_paper_a_held_night_is_one_page(browser, site, held):
    browser.open(site + held)
    paper = base64.b64decode(browser.pdf())
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) == 1
