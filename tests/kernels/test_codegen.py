"""The compiler kept the sums of the widest tile in registers."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

import pytest

import accel._kernels
from accel import kernels


@cache
def listing() -> str:
    """Instructions of the compiled module."""
    tool = shutil.which("objdump")
    if tool is None:
        pytest.skip("hardware: objdump is not installed")
    command = [tool, "-d", "--no-show-raw-insn", str(accel._kernels.__file__)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def disassembly(function: str) -> list[list[str]]:
    """Instructions of the functions of that name, one for each instruction set."""
    bodies = re.findall(rf"<{function}>:\n(.*?)\n\n", listing(), re.S)
    return [body.splitlines() for body in bodies]


def loops(lines: list[str]) -> list[list[str]]:
    """Innermost loops: from the target of a backward jump to the jump."""
    at = [int(m[1], 16) if (m := re.match(r"\s*([0-9a-f]+):", line)) else 0 for line in lines]
    found = []
    for i, line in enumerate(lines):
        if (m := re.search(r"\sj\w+\s+([0-9a-f]+) ", line)) and int(m[1], 16) in at[:i]:
            found.append(lines[at.index(int(m[1], 16)) : i + 1])
    return [a for a in found if not any(b is not a and set(b) < set(a) for b in found)]


def hot_loops(mode: str, rows: int, instruction: str, tile: str = "dot") -> list[str]:
    """Innermost loops that hold the instruction, of the products of `rows` pixels; no spills. What
    makes floats of sums is no part of them, but a jump back from what lies behind may enclose it.
    """
    found = []
    for lines in disassembly(f"{tile}_LW_{mode}_{rows}"):
        frame = any(re.search(r"mov\s+%rsp,%rbp", line) for line in lines)
        stack = r"\(%r[sb]p" if frame else r"\(%rsp"
        for text in ("\n".join(loop) for loop in loops(lines)):
            if instruction in text and "vcvtdq2ps" not in text:
                assert not re.search(rf"[yz]mm\d+,.*{stack}|{stack}.*[yz]mm", text)
                found.append(text)
    return found


@pytest.mark.skipif("avx512vnni" not in kernels.isas(), reason="hardware: no AVX512-VNNI")
@pytest.mark.parametrize(
    ("tile", "rows", "mode"),
    [("dot", 7, "A"), ("dot", 7, "AW"), ("dot", 7, "C"), ("narrow", 14, "A"), ("narrow", 14, "AW"),
     ("dot_row", 7, "A"), ("dot_row", 7, "C"), ("narrow_row", 14, "A"), ("narrow_row", 14, "C")],
)  # fmt: skip
def test_dot_loop_has_no_spills(tile: str, rows: int, mode: str) -> None:
    hot = hot_loops(mode, rows, "vpdpbusd", tile)
    assert hot
    for text in hot:  # the compiler may make more than one
        assert text.count("vpdpbusd") % 14 == 0
        copies = re.findall(r"vmovdqa\d*\s+%zmm\d+,%zmm", text)
        assert len(copies) <= 2, "copies of accumulators beyond what renaming hides"


@pytest.mark.skipif("avx2" not in kernels.isas(), reason="hardware: no AVX2")
@pytest.mark.parametrize("mode", ["A", "AW", "C"])
@pytest.mark.parametrize(("rows", "instruction"), [(3, "vpmaddwd"), (6, "vpdpbusd")])
def test_dot_loops_of_256_bits_have_no_spills(mode: str, rows: int, instruction: str) -> None:
    """The widest tile of AVX2, and of AVX-VNNI in both of its encodings."""
    hot = [text for text in hot_loops(mode, rows, instruction) if "ymm" in text]
    assert len(hot) >= (1 if instruction == "vpmaddwd" else 2)
    for text in hot:
        assert text.count(instruction) % (4 * rows if instruction == "vpmaddwd" else 2 * rows) == 0
