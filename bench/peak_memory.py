"""Most memory that a process needs to open a network and run it: ours beside the int8 peers.

    python bench/peak_memory.py                  # ResNet-50
    python bench/peak_memory.py --only vgg16

Every engine gets a process of its own, one thread and one image: ours the program file that
`Program.save` wrote, or the int8 model; ONNX Runtime and OpenVINO the static int8 model that
`Model.calibrate` makes. Python and NumPy are part of each figure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from networks import SAMPLES, caption
from topologies import TOPOLOGIES

import accel

TAIL = """
run()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
ENGINES = {
    "ours, program file": """
import accel
program = accel.load_program({program!r}, threads=1)
run = lambda: program.run(x)
""",
    "ours, int8 model": """
import accel
program = accel.device("cpu").compile(accel.load({int8!r}), batch_size=1, threads=1)
run = lambda: program.run(x)
""",
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession({static!r}, options, providers=["CPUExecutionProvider"])
run = lambda: session.run(None, {{session.get_inputs()[0].name: x}})
""",
    "openvino": """
import openvino
config = {{"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}}
compiled = openvino.Core().compile_model({static!r}, "CPU", config)
run = lambda: compiled([x])
""",
}


def measure(code: str, shape: tuple[int, ...]) -> float:
    """MB of a Linux process that runs some code on zeros."""
    head = f"import numpy as np\nx = np.zeros({shape}, np.float32)\n"
    command = [sys.executable, "-c", head + code + TAIL]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="resnet50", help="parts of names, comma-separated")
    wanted = parser.parse_args().only.split(",")
    print(f"{caption()}\n\n| network | {' | '.join(ENGINES)} |\n{'|---' * (len(ENGINES) + 1)}|")
    for name, make in TOPOLOGIES.items():
        if not any(part in name for part in wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            files = {key: str(Path(folder, f"{key}.onnx")) for key in ("int8", "static", "program")}
            model = make()
            shape = tuple(d if isinstance(d, int) else 1 for d in model.inputs[0].shape)
            samples = np.random.default_rng(0).random((SAMPLES, *shape[1:]), np.float32)
            model.calibrate(samples).save(files["static"])
            quantized = model.quantize()
            quantized.save(files["int8"])
            accel.device("cpu").compile(quantized, 1, threads=1).save(files["program"])
            cells = [f"{measure(c.format(**files), shape):.0f} MB" for c in ENGINES.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
