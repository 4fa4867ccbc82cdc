"""Every Python block and every `accel` line of the README and of the pages in docs/ runs.

The blocks of one page run in their order in one folder, which holds what the pages speak of: an
archive of digits and a folder of photos. A block that needs more belongs to the tests of its
subject: add the page to ELSEWHERE with the file that runs it.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from accel.cli import main
from accel.demo import digits_test

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))
ELSEWHERE = {
    "docs/spark.md": "tests/spark/test_docs.py",
    "docs/card.md": "tests/fpga/test_card_page.py",
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`([\w./<>]+\.(?:py|pyx|pyi|c|h|md|toml))(?:: (\w+))?`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def sources() -> list[Path]:
    """Files of the repository, relative to it, without environments and build products."""
    folders = ("accel", "spark_bridge", "kernels", "tests", "bench", "examples", "docs")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.*")]
    return [path.relative_to(ROOT) for path in (*found, *ROOT.glob("*.*"))]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with digits.npz and photos/, made the current one."""
    images, labels = digits_test()
    np.savez(tmp_path / "digits.npz", image=images[:20], label=labels[:20])
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(images[:3]):
        colour = cv2.resize(image[:, :, 0], (60, 45))
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), colour)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", shlex.split(line, comments=True))
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("page", [p for p in PAGES if p not in ELSEWHERE])
def test_page_examples_run(page: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, page, "exec"), names)
        elif language == "sh":
            for line in text.splitlines():
                if line.startswith("accel "):
                    assert run_command(line, monkeypatch) == 0, line


@pytest.mark.parametrize("page", ELSEWHERE)
def test_page_run_elsewhere_is_read_there(page: str) -> None:
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_page_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_page_names_files_and_functions_that_exist(page: str) -> None:
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for file, name in FILE.findall(text):
        found = [path for path in sources() if f"/{path.as_posix()}".endswith(f"/{file}")]
        assert found or "<" in file, f"{page} names {file}"
        written = [(ROOT / path).read_text(encoding="utf-8") for path in found]
        assert not name or any(re.search(rf"(def|class) {name}\b", t) for t in written), name


def test_readme_first_block_is_short_and_python() -> None:
    language, text = blocks("README.md")[0]
    assert language == "python" and len(text.strip().splitlines()) <= 8


def test_readme_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme, contributing = ((ROOT / p).read_text() for p in ("README.md", "CONTRIBUTING.md"))
    named = set(re.findall(r"make ([a-z-]+)    ?", readme + contributing))
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
