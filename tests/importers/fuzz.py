"""Fuzz the importers: damaged files must load, or end in a typed error, in bounded time and memory.

    python tests/importers/fuzz.py --seconds 600

Each file is read in a worker process under a limit of memory; a worker that dies, hangs or raises
anything but an AccelError is printed with the seed that does it again (`--only NAME:SEED`).
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import corpus  # noqa: E402
import mutate  # noqa: E402

SECONDS = 60  # for one file
MEMORY_BYTES = 6 << 30  # address space of the process that reads ONNX and Caffe


def attempt(name: str, seed: int, folder: Path) -> str:
    """Damage one file of the corpus, and load, quantize and compile what is left."""
    import accel

    case = corpus.CASES[name]
    path = case.write(folder, lambda data: _damaged(name, data, seed))
    try:
        model = accel.load(path)
    except accel.AccelError as error:
        assert str(error), "an error without words"
        return type(error).__name__
    try:
        quantized = model.quantize()
        accel.device("cpu").compile(quantized)
        accel.device("onnxruntime").compile(model)
    except accel.AccelError as error:
        assert str(error), "an error without words"
        return f"compile {type(error).__name__}"
    return "loaded"


def _damaged(name: str, data: bytes, seed: int) -> bytes:
    if name.startswith("onnx") and seed % 3:
        return mutate.change_onnx(data, seed)
    return mutate.damage(data, seed)


def work() -> None:
    """Read ``NAME SEED`` lines, answer each with one line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for line in sys.stdin:
            name, seed = line.split()
            try:
                answer = attempt(name, int(seed), Path(folder))
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                answer = f"FAILED {type(error).__name__}: {str(error)[:200]!r} at {where.name}"
                traceback.print_exc()
            print(answer.replace("\n", " "), flush=True)


class Worker:
    """A process that attempts files; a fresh one after each that ended."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: subprocess.Popen[str] | None = None

    def attempt(self, name: str, seed: int) -> str:
        process = self.start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{name} {seed}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        answer = process.stdout.readline().strip() if ready else ""
        if answer:
            return answer
        self.close()
        return f"FAILED {'hung' if not ready else f'ended with code {process.returncode}'}"

    def start(self) -> subprocess.Popen[str]:
        """The process, a fresh one where it has ended."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            with self.log.open("a") as log:
                self._process = subprocess.Popen(
                    [sys.executable, __file__, "--work"], text=True, stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=log,
                )  # fmt: skip
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--names", default=",".join(corpus.CASES), help="files of the corpus")
    parser.add_argument("--only", help="one case again: NAME:SEED")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return 0
    if options.only:
        name, seed = options.only.split(":")
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            print(attempt(name, int(seed), Path(folder)))
        return 0
    return run(options.names.split(","), options.seed, options.seconds)


def run(names: list[str], seed: int, seconds: float) -> int:
    """Attempt seeds in turn on all names; the number of failures."""
    log = Path(tempfile.mkstemp(prefix="fuzz-", suffix=".log")[1])
    worker, counts, failures = Worker(log), Counter[str](), 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            for name in names:
                answer = worker.attempt(name, seed)
                failed = answer.startswith("FAILED")
                counts[f"{name}: {'FAILED' if failed else answer}"] += 1
                if failed:
                    failures += 1
                    print(f"{name}:{seed} {answer}", flush=True)
            seed += 1
    finally:
        worker.close()
    for key, count in sorted(counts.items()):
        print(f"{count:7d}  {key}")
    print(f"{failures} failures; output of the readers in {log}")
    return failures


if __name__ == "__main__":
    os.environ.setdefault("OPENVINO_LOG_LEVEL", "0")
    sys.exit(min(1, main()))
