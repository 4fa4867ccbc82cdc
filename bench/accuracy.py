"""What int8 costs in accuracy, as one table: windows without data beside calibrated engines.

    .venv/bin/python bench/accuracy.py                      # everything, some minutes
    .venv/bin/python bench/accuracy.py --quick              # no 5,000 JPEGs, no engines
    .venv/bin/python bench/accuracy.py --only yolo,resnet20 --json build/accuracy.json

Needs the trained models and labelled data beside the repository. Agreement is the share of rows
with the class that fp32 gives (detectors: the share of its boxes that are found again, at an
overlap of 0.5; features: the mean cosine). Quality is top-1, mAP@0.5 or precision@1. Calibrated
engines see 500 training images for CIFAR-10, and 100 of the measured rows otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import DATA
from tasks import Comparison, Task, tasks

import accel
from accel.compress import compress

BATCH, THREADS = 16, 2
WEIGHT_WINDOW = 48  # keeps models below 28.5 % of their fp32 size
LARGE = 2000  # rows; tasks of more are left out of a quick run
ENGINES = ("openvino", "onnxruntime")


@dataclass(frozen=True)
class Result:
    """One network in one form.

    Attributes
    ----------
    size, packed : bytes of the .onnx and the .onnx.xz file over those of the fp32 .onnx; None where
        nothing is stored.
    fp32 : quality in fp32; None without labels. published : what is known of it.
    """

    task: str
    rows: int
    form: str
    size: float | None
    packed: float | None
    fp32: float | None
    published: float | None
    comparison: Comparison

    @property
    def balanced(self) -> bool:
        """Whether rows won and lost differ by no more than chance allows."""
        won, lost = self.comparison.won, self.comparison.lost
        return won is None or lost is None or abs(won - lost) <= 2 * (won + lost) ** 0.5


def measure(task: Task, quick: bool) -> Iterator[Result]:
    """Every form of one network."""
    model = task.model()
    reference = task.run(compiled("onnxruntime", model))
    fp32 = task.compare(reference, reference).quality
    for form, device, make in forms(model, task, quick):
        made = make()
        found = task.compare(task.run(compiled(device, made)), reference)
        size, packed = shares(made, model) if device == "cpu" else (None, None)
        yield Result(task.name, task.size, form, size, packed, fp32, task.fp32, found)


def shares(made: accel.Model, model: accel.Model) -> tuple[float, float]:
    """Of the size of `model`: as stored plain, and compressed as `Model.save` does."""
    plain, whole = made.to_bytes(), len(model.to_bytes())
    return len(plain) / whole, len(compress(plain)) / whole


def forms(
    model: accel.Model, task: Task, quick: bool
) -> Iterator[tuple[str, str, Callable[[], accel.Model]]]:
    """Column, device and model of each form."""
    yield "default", "cpu", model.quantize
    yield "weight windows", "cpu", lambda: model.quantize(weight_window=WEIGHT_WINDOW)
    if not quick:
        calibrated = model.calibrate(task.calibration())
        for engine in ENGINES:
            yield f"{engine}, calibrated", engine, lambda: calibrated


def compiled(device: str, model: accel.Model) -> accel.Program:
    return accel.device(device).compile(model, batch_size=BATCH, threads=THREADS)


def table(results: list[Result]) -> str:
    """Markdown, one row for each network."""
    columns = list(dict.fromkeys(r.form for r in results))
    head = ["network", "rows", "fp32", *columns]
    lines = [head, ["---"] * len(head)]
    for task in dict.fromkeys(r.task for r in results):
        own = {r.form: r for r in results if r.task == task}
        first = next(iter(own.values()))
        cells = [cell(own[c]) if c in own else "" for c in columns]
        lines.append([task, str(first.rows), percent(first.fp32), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(result: Result) -> str:
    """Agreement, quality, rows won and lost, size."""
    c = result.comparison
    parts = [f"**{percent(c.agreement, 2)}**"]
    if c.quality is not None:
        parts.append(percent(c.quality))
    if c.won is not None:
        parts.append(f"+{c.won} -{c.lost}{'' if result.balanced else ' (!)'}")
    if result.size is not None:
        parts.append(f"size {percent(result.size)}, xz {percent(result.packed)}")
    return ", ".join(parts)


def plain(result: Result) -> dict[str, Any]:
    """A result for JSON."""
    return asdict(result) | {"comparison": result.comparison._asdict(), "balanced": result.balanced}


def percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{100 * share:.{digits}f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small data sets, our forms only")
    parser.add_argument("--only", default="", help="parts of names, comma-separated")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit("accuracy.py: no trained models at shared/data beside the repository")
    parts = options.only.split(",")
    chosen = [t for t in tasks() if any(part in t.name for part in parts)]
    if not chosen:
        sys.exit(f"accuracy.py: nothing matches {options.only!r}; there are: "
                 + "; ".join(t.name for t in tasks()))  # fmt: skip
    results: list[Result] = []
    for task in chosen:
        if not (options.quick and task.size >= LARGE):
            results += measure(task, options.quick)
            print(f"{task.name} done", file=sys.stderr)
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps([plain(r) for r in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
