"""The `fpga` device: a simulated card. Values are those of `cpu`, bit for bit; times are
simulated from the card's published figures."""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from accel.backends.cpu import PlanProgram
from accel.device import Device
from accel.errors import DeviceError, InputError
from accel.explain import Explanation
from accel.order import Order
from accel.program import Array, Arrays, Job, Program, _pad
from accel.workload import Layer, workload_of

if TYPE_CHECKING:
    from accel.fpga import Driver, Request, Service

DEFAULT_CARD = "alveo-u50"


def availability() -> tuple[bool, str]:
    """Whether SimPy, the event loop of the simulation, is installed."""
    if importlib.util.find_spec("simpy") is None:
        return False, "not installed; run: pip install simpy"
    return True, f"simulated card, {DEFAULT_CARD} unless chosen by card="


def open_device(
    index: int,
    card: str = DEFAULT_CARD,
    *,
    faults: str | Sequence[Any] = (),
    seed: int = 0,
    ring_size: int = 256,
    fallback: bool = True,
    trace: bool = True,
) -> Device:
    """Open a simulated card.

    Parameters
    ----------
    card : name of a profile (`accel.fpga.profile_names()`), or a profile.
    faults : what goes wrong, and when: `accel.fpga.Rule`s, or text as
        "completion_lost:0.01,hang@5ms".
    seed : seed of the faults.
    ring_size : descriptors in each ring, a power of two in 64 … 16384.
    fallback : compute on the CPU what the card cannot finish; else it ends in a CardError.
    trace : record what every component does (`Program.save_trace`).
    """
    from accel.fpga import Card, Driver

    simulated = Card(card, faults=faults, seed=seed, trace=trace)
    if simulated.scheduler is None:
        raise DeviceError(
            f"card {simulated.profile.name!r} only moves bytes, it has no compute engine; use it "
            f"with accel.fpga.Card, or choose another card"
        )
    return FpgaDevice(f"fpga:{index}", Driver(simulated, ring_size, fallback))


class FpgaDevice(Device):
    """One simulated card with its driver; its programs share the card and its clock."""

    def __init__(self, name: str, driver: Driver) -> None:
        super().__init__(name, FpgaProgram)
        self.driver = driver
        self.lock = threading.RLock()


class FpgaProgram(Program):
    """A network loaded into the card; the values come from a `cpu` program of the same model."""

    device: FpgaDevice

    def __init__(self, order: Order) -> None:
        from accel.fpga import Network

        super().__init__(order)
        device, model = self.device, order.model
        self._cpu = PlanProgram(order)
        layers = workload_of(model.with_shapes(self.batch_size, self.shapes))
        scheduler = device.driver.card.scheduler
        assert scheduler is not None
        spec = scheduler.spec
        own = {row.node for row in self._cpu.explain().rows if row.own}
        engine = [_one_image(x) for x in layers if x.name in own and spec.runs(x)]
        self._on_engine = {layer.name for layer in engine}
        dummy = {s.name: np.zeros(_fixed(s.shape, s.name), s.dtype) for s in self.inputs}
        results = self._cpu._execute(dummy)  # shapes of outputs are not always in the file
        self.network = Network(
            model.name,
            engine,
            {name: (array.shape, array.dtype) for name, array in dummy.items()},
            {name: (array.shape, array.dtype) for name, array in results.items()},
            self._cpu._execute,
            self._host_seconds(),
        )
        with device.lock:
            self._slot = device.driver.load(self.network)

    def submit(self, x: Any) -> Job:
        """Start a run on the card and return at once; simulated time passes in `Job.result`."""
        arrays, rows = self._checked(x)
        with self.device.lock:
            return FpgaJob(self, self._start(arrays, rows), rows)

    def stats(self) -> dict[str, dict[str, float]]:
        """Return per component its utilisation, busy time and counts, for the whole card."""
        with self.device.lock:
            card = self.device.driver.card
            return card.stats() | {"driver": dict(self.device.driver.counts)}

    def save_trace(self, path: str) -> None:
        """Write what the card did as Chrome/Perfetto JSON."""
        with self.device.lock:
            self.device.driver.card.trace.save(path)

    def listen(
        self,
        transport: Literal["tcp", "udp"] = "tcp",
        host: str = "127.0.0.1",
        port: int = 0,
        **options: Any,
    ) -> Service:
        """Take images from the card's network port: see `accel.fpga.Service` and `Ingest`.

        A frame is name[28], length[4, big-endian] and the bytes of one image as in `inputs`. Use
        it in a `with` statement, and nothing else on this card meanwhile.

        Raises CardError for a card without a port, InputError for a network of several inputs.
        """  # fmt: skip
        from accel.fpga import Ingest, Service

        card = self.device.driver.card
        ingest = Ingest(card, transport, host, port, **options)
        return Service(card, self._slot, self.network, ingest)

    def explain(self) -> Explanation:
        """Every node with the engine's cycles and time for one image."""
        from accel.fpga.explained import explained

        return explained(self._cpu.explain(), self.device.driver.card, self.network)

    def _execute(self, inputs: Arrays) -> Arrays:
        with self.device.lock:
            driver = self.device.driver
            return _outputs(driver, driver.submit(self._slot, inputs))

    def _run_batches(self, arrays: Arrays, rows: int) -> Arrays:
        with self.device.lock:
            return self._collect(self._start(arrays, rows), rows)

    def _start(self, arrays: Arrays, rows: int) -> list[Request]:
        size = self.batch_size
        return [
            self.device.driver.submit(
                self._slot, {n: _pad(a[at : at + size], size) for n, a in arrays.items()}
            )
            for at in range(0, rows, size)
        ]

    def _collect(self, requests: list[Request], rows: int) -> Arrays:
        parts = [_outputs(self.device.driver, request) for request in requests]
        if rows == self.batch_size:
            return parts[0]
        return {name: self._join(name, [p[name] for p in parts], rows) for name in parts[0]}

    def _host_seconds(self) -> float:
        from accel.fpga.placement import BESIDE_ARRAY, host_node_s

        rows = [r for r in self._cpu.explain().rows if r.node not in self._on_engine]
        seconds = [host_node_s(row.macs) for row in rows if row.op not in BESIDE_ARRAY]
        return sum(seconds) / self.batch_size


class FpgaJob(Job):
    """A batch on the card. Simulated time passes while somebody asks for the result.

    Attributes
    ----------
    outcomes : per batch "card", or "cpu" where the card failed and the CPU computed it
    """

    def __init__(self, program: FpgaProgram, requests: list[Request], rows: int) -> None:
        super().__init__(Future())
        self._program = program
        self._requests = requests
        self._rows = rows

    @property
    def outcomes(self) -> tuple[str, ...]:
        """How each batch ended, "" while it is under way."""
        return tuple(request.outcome for request in self._requests)

    def result(self, timeout: float | None = None) -> Array | Arrays:
        """Let simulated time pass until the batch is done; `timeout` plays no role."""
        with self._program.device.lock:
            if not self._future.done():
                self._finish()
        return super().result(0)

    def done(self) -> bool:
        """Whether the batch has ended; each call lets the card take one simulated event."""
        with self._program.device.lock:
            if not self._future.done():
                self._program.device.driver.step()
                if all(self.outcomes):
                    self._finish()
        return self._future.done()

    def _finish(self) -> None:
        try:
            outputs = self._program._collect(self._requests, self._rows)
        except Exception as error:
            self._future.set_exception(error)
        else:
            alone = next(iter(outputs.values()))
            self._future.set_result(outputs if len(outputs) > 1 else alone)
        ended = max(request.done_ps for request in self._requests)
        started = min(request.submitted_ps for request in self._requests)
        self.simulated_ns = (ended - started) // 1000


def _outputs(driver: Driver, request: Request) -> Arrays:
    outputs = driver.wait(request)
    if request.outcome == "cpu":
        warnings.warn(
            f"{driver.card.profile.name}: request {request.number} was computed on the CPU after "
            f"{', '.join(request.steps[:-1]) or 'the card could not be loaded'}",
            RuntimeWarning,
            stacklevel=4,
        )
    return outputs


def _one_image(layer: Layer) -> Layer:
    return replace(
        layer,
        n=1,
        macs=layer.macs // layer.n,
        input_bytes=layer.input_bytes // layer.n,
        output_bytes=layer.output_bytes // layer.n,
    )


def _fixed(shape: tuple[int | None, ...], name: str) -> tuple[int, ...]:
    if any(d is None for d in shape):
        raise InputError(f"input {name!r} has free dimensions {shape}; give them with shapes=")
    return tuple(d for d in shape if d is not None)
