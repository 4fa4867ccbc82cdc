"""The `accel` command: one file per subcommand, and the way errors leave it.

An AccelError is the user's to mend, and so are kernels that were not built: each becomes one line
on stderr and exit code 2.
"""

from __future__ import annotations

import sys

import typer

from accel.cli.compare import compare
from accel.cli.demo import demo
from accel.cli.detect import detect
from accel.cli.devices import devices
from accel.cli.estimate import estimate
from accel.cli.fpga import app as fpga
from accel.cli.inspect import inspect
from accel.cli.profile import profile
from accel.cli.quantize import quantize
from accel.cli.report import report
from accel.cli.run import run
from accel.errors import AccelError

EXIT_USER_ERROR = 2

app = typer.Typer(
    name="accel",
    help="int8 inference with local quantization windows, without calibration data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (devices, inspect, quantize, run, detect, profile, report, compare, estimate, demo):
    app.command()(command)
app.add_typer(fpga, name="fpga")


def main() -> None:
    """Entry point of the `accel` command."""
    try:
        app()
    except (AccelError, ImportError) as error:
        print("accel:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
