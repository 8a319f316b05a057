"""The documentation holds together: links, anchors, pages that code names, and the tutorial's files."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from nightly.records.config import ModelConfig

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```.*?^```$", re.S | re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = [path for folder in ("benchmarks", "client", "include", "local", "plugins", "server", "setup", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))]  # fmt: skip


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def is_broken(page: Path, link: str) -> bool:
    if link.startswith(("http://", "https://", "mailto:")):
        return False
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return not target.exists() or bool(anchor and anchor not in anchors(target))


@pytest.mark.parametrize(
    "page",
    [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md")), *PAGES],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_no_relative_link_is_broken(page):
    links = LINK.findall(FENCE.sub("", page.read_text()))
    assert [link for link in links if is_broken(page, link)] == []


def test_a_broken_link_and_a_missing_anchor_are_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title, with `code`\n")
    assert not is_broken(page, "#a-title-with-code") and not is_broken(page, "page.md")
    assert is_broken(page, "#another") and is_broken(page, "gone.md")


def test_a_page_of_the_site_links_only_to_pages_of_the_site():
    outside = {
        (page.name, link)
        for page in PAGES
        for link in LINK.findall(FENCE.sub("", page.read_text()))
        if "://" not in link and not (page.parent / link.partition("#")[0]).resolve().is_relative_to(DOCS)
    }
    assert outside == set()


def test_every_page_is_in_the_navigation():
    def paths(entry):
        if isinstance(entry, str):
            return [entry]
        return [path for part in (entry.values() if isinstance(entry, dict) else entry) for path in paths(part)]

    navigation = paths(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(navigation) == sorted(str(page.relative_to(DOCS)) for page in PAGES)


def test_every_decision_is_in_the_list_of_decisions():
    index = DOCS / "decisions/index.md"
    pages = {page.name for page in PAGES if page.parent == index.parent and page != index}
    assert set(LINK.findall(index.read_text())) == pages


def test_every_page_that_code_names_exists():
    named = {name for path in CODE for name in re.findall(r"\bdocs/[\w./-]+\.md\b", path.read_text())}
    assert len(named) > 3
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_file_that_a_page_names_exists():
    folders = "benchmarks|bin|client|dags|docs|include|local|plugins|server|setup|tests|nightly"
    named = re.compile(rf"`((?:{folders})/[\w./-]+)`")
    missing = {
        (page.name, name)
        for page in [ROOT / "README.md", *PAGES]
        for name in named.findall(FENCE.sub("", page.read_text()))
        if "bikes" not in name and not (ROOT / name).exists() and not (ROOT / "include" / name).exists()
    }
    assert missing == set()


def test_the_readme_is_short_and_its_pictures_are_small():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) < 700
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", text)
    assert len(pictures) == 2
    assert all((ROOT / picture).stat().st_size < 200_000 for picture in pictures)


def test_the_tutorials_files_are_valid():
    files = dict(re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', (DOCS / "tutorial.md").read_text(), re.S))
    config = tomllib.loads(files.pop("include/models/bikes/config.toml"))
    assert ModelConfig.model_validate({"name": "bikes", **config}).data.label.column == "returned_late"
    assert len(files) == 4
    for text in files.values():
        ast.parse(text)
