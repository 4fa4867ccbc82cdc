"""Run the node, simple and PyTorch suites of the onnx package on our `cpu` device, quantized.

    python tests/onnx_suite.py            # one line a test: name, tab, "passed" or the fault

The cases are built once; two processes then share them, so that a crash costs one of them and is
told by name.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from typing import Any

PROCESSES = 2
PASSED, CRASHED = "passed", "crashed"
ROUNDING = 0.05  # of int8, where weights are constant; everything else has the suite's tolerance
INT8_KINDS = ("pytorch-converted", "pytorch-operator")


def cases() -> dict[str, Any]:
    """Every case for the CPU by name; models that would be downloaded are left out."""
    from onnx.backend.test.loader import load_model_tests
    from onnx.backend.test.runner import Runner

    from accel.onnx_backend import AccelBackend

    loose = {"rtol": ROUNDING, "atol": ROUNDING}
    names = [case.name for kind in INT8_KINDS for case in load_model_tests(kind=kind)]
    runner = Runner(AccelBackend, test_kwargs=dict.fromkeys(names, loose))
    return {
        name: item.func
        for category, items in sorted(runner._test_items.items())
        for name, item in sorted(items.items())
        if category != "RealModel" and name.endswith("_cpu")
    }


def outcome(case: Any) -> str:
    """Whether one case passes, else its fault on one line."""
    try:
        case(None)
    except unittest.SkipTest as skip:
        return f"skipped: {skip}"
    except Exception as fault:
        return f"{type(fault).__name__}: {' '.join(str(fault).split())}"
    return PASSED


def run_share(found: dict[str, Any], first: int, path: Path) -> None:
    """Run every `PROCESSES`th case; the file says which one a crash came from."""
    with path.open("w") as file:
        for name in list(found)[first::PROCESSES]:
            file.write(f"{name}\t")
            file.flush()
            file.write(f"{outcome(found[name])}\n")


def main() -> None:
    """Run all and print a line for each."""
    warnings.simplefilter("ignore")
    found = cases()
    fork = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, str(i)) for i in range(PROCESSES)]
        workers = [fork.Process(target=run_share, args=(found, i, p)) for i, p in enumerate(paths)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for path in paths:
            text = path.read_text()
            sys.stdout.write(text if text.endswith("\n") else f"{text}{CRASHED}\n")


if __name__ == "__main__":
    main()
