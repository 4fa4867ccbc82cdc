"""The rule of conftest.py: where trained models are present, a skipped test is a failure."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
TESTS = """
import pytest

def test_plain():
    pytest.skip("not today")

def test_reason():
    pytest.skip("hardware: no such CPU")

@pytest.mark.hardware
def test_marked():
    pytest.skip("no such CPU")

@pytest.mark.skip(reason="never")
def test_decorated():
    pass

@pytest.mark.xfail(strict=True)
def test_expected():
    assert False

def test_models(shared):
    assert (shared / "data").is_dir()
"""
MODULE = "import pytest\npytest.importorskip('no_such_module')\n"


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (True, {"failed": 1, "skipped": 2, "xfailed": 1, "passed": 1, "error": 2}),
        (False, {"skipped": 6, "xfailed": 1}),
    ],
)
def test_skip_fails_only_beside_the_models(
    tmp_path: Path, present: bool, expected: dict[str, int]
) -> None:
    tests = tmp_path / "repository" / "tests"
    tests.mkdir(parents=True)
    shutil.copy(CONFTEST, tests)
    (tests / "test_functions.py").write_text(TESTS)
    (tests / "test_module.py").write_text(MODULE)
    if present:
        (tmp_path / "shared" / "data").mkdir(parents=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    options = ["--continue-on-collection-errors", str(tests)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1]
    words = last.split(" in ")[0].replace("errors", "error").split(", ")
    assert {word.split()[1]: int(word.split()[0]) for word in words} == expected
