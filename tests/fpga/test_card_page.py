"""The page about the card: every Python block on it runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from accel.fpga import profile_names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "card.md"


def test_examples_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert (tmp_path / "trace.json").stat().st_size > 1000
    for text in ("ms on the card", "b'hello'", "limited by engines", "limited by decode"):
        assert text in printed


def test_page_names_every_card() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in profile_names() if f"`{name}`" not in text] == []
