"""The compiler kept the sums of the widest tile in registers."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

import accel._kernels
from accel import kernels


def disassembly(function: str) -> list[str]:
    """Instructions of one function of the compiled module."""
    tool = shutil.which("objdump")
    if tool is None:
        pytest.skip("hardware: objdump is not installed")
    text = subprocess.run(
        [tool, "-d", "--no-show-raw-insn", str(accel._kernels.__file__)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    bodies = re.findall(rf"<{function}>:\n(.*?)\n\n", text, re.S)
    return [line for body in bodies for line in body.splitlines()]


def loops(lines: list[str]) -> list[list[str]]:
    """Innermost loops: from the target of a backward jump to the jump."""
    at = [int(m[1], 16) if (m := re.match(r"\s*([0-9a-f]+):", line)) else 0 for line in lines]
    found = []
    for i, line in enumerate(lines):
        if (m := re.search(r"\sj\w+\s+([0-9a-f]+) ", line)) and int(m[1], 16) in at[:i]:
            found.append(lines[at.index(int(m[1], 16)) : i + 1])
    return [a for a in found if not any(b is not a and set(b) < set(a) for b in found)]


@pytest.mark.skipif("avx512vnni" not in kernels.isas(), reason="hardware: no AVX512-VNNI")
@pytest.mark.parametrize("mode", ["A", "AW", "C"])
def test_dot_loop_has_no_spills(mode: str) -> None:
    hot = [loop for loop in loops(disassembly(f"dot_LW_{mode}_7")) if "vpdpbusd" in "".join(loop)]
    assert len(hot) == 1
    text = "\n".join(hot[0])
    dots = text.count("vpdpbusd")
    assert dots % 14 == 0
    assert dots >= 14
    assert not re.search(r"zmm\d+,.*\(%rsp|\(%rsp.*zmm|\(%rbp.*zmm", text)
    copies = re.findall(r"vmovdqa\d*\s+%zmm\d+,%zmm", text)
    assert len(copies) <= 2, "copies of accumulators beyond what renaming hides"
