"""Which engine computes which image, and when; the values are computed when a frame is finished.

The images of a frame go to whichever engines are free first. The engines share the card's memory
bandwidth, which ends a frame later when it is the scarcer of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from accel.errors import AccelError, CardError
from accel.fpga.clock import Clock, Server, transfer_ps
from accel.fpga.engine import EngineSpec, LayerTime, image_ps, time_layers
from accel.fpga.faults import Fault, Faults
from accel.fpga.memory import Memory
from accel.fpga.network import Network
from accel.fpga.ring import OK, Status
from accel.fpga.trace import Trace

THROTTLED = 0.5


_free_at = attrgetter("free_at_ps")


@dataclass(frozen=True)
class Loaded:
    """A network in a program slot, and how long an image takes an engine and the memory."""

    network: Network
    times: tuple[LayerTime, ...]
    image_ps: int
    moved_ps: int


class Scheduler:
    """The engines of a card and the networks loaded into it.

    Attributes
    ----------
    loaded : networks by program slot
    images : images given to the engines so far
    frames : addresses of the frames under way; nobody may give that memory to another
    last_error : what the last network that failed raised
    """

    def __init__(
        self,
        env: Clock,
        spec: EngineSpec,
        memory: Memory,
        faults: Faults,
        trace: Trace,
    ) -> None:
        self.env = env
        self.spec = spec
        self.memory = memory
        self.faults = faults
        self.trace = trace
        self.engines = [Server(env, f"engine {i}", trace.recorder) for i in range(spec.count)]
        self.channels = Server(env, "card memory", trace.recorder)
        self.loaded: list[Loaded] = []
        self.images = 0
        self.frames: set[int] = set()
        self.last_error: AccelError | None = None
        self._epoch = 0

    def load(self, network: Network) -> int:
        """Put a network into the next program slot and return the slot's number."""
        self.loaded.append(self.describe(network))
        return len(self.loaded) - 1

    def describe(self, network: Network) -> Loaded:
        """Return what the network's layers cost on these engines."""
        times = tuple(time_layers(network.layers, self.spec))
        moved = transfer_ps(sum(t.n_bytes for t in times), self.spec.total_bandwidth)
        return Loaded(network, times, image_ps(times, self.spec), moved)

    def start(
        self, program: int, frame: int, done: Callable[[Status], None], flow: int | None = None
    ) -> None:
        """Run program `program` on the frame at address `frame`; `done` gets the outcome.

        `flow` names the request whose arrow in the trace passes here.
        """
        if program >= len(self.loaded):
            done(Status.PROGRAM_ERROR)
            return
        self.frames.add(frame)
        if self.faults.fires(Fault.HANG):
            return
        loaded, epoch = self.loaded[program], self._epoch
        end = self._reserve(loaded, flow)

        def finish() -> None:
            if epoch == self._epoch:
                self.frames.discard(frame)
                done(self._compute(loaded, frame))

        self.env.call_at(end, finish)

    def reset(self) -> None:
        """Drop the frames under way; loaded networks stay."""
        self._epoch += 1
        self.frames.clear()
        for server in (*self.engines, self.channels):
            server.clear()

    def _reserve(self, loaded: Loaded, flow: int | None) -> int:
        """Give every image of a frame to the engine free first; return when the last ends."""
        throttled = self.faults.fires(Fault.THROTTLE)
        duration = loaded.image_ps
        if throttled:
            duration = image_ps(time_layers(loaded.network.layers, self.spec, THROTTLED), self.spec)
        end = 0
        for _ in range(loaded.network.images):
            engine = min(self.engines, key=_free_at)
            if flow is not None and self.trace.enabled:
                start = max(self.env.now, engine.free_at_ps)
                self.trace.flow(flow, engine.name, start)
            end = max(
                end,
                engine.reserve(duration, loaded.network.name),
                self.channels.reserve(loaded.moved_ps, loaded.network.name),
            )
        self.images += loaded.network.images
        return end

    def _compute(self, loaded: Loaded, frame: int) -> Status:
        """Compute the values from the bytes in card memory, at the moment the engines finish."""
        if self.faults.fires(Fault.ECC_UNCORRECTED):
            return Status.MEMORY_ERROR
        try:
            loaded.network.run(self.memory, frame)
        except AccelError as error:
            self.last_error = error
            return Status.PROGRAM_ERROR
        except Exception as error:
            self.last_error = CardError(f"{loaded.network.name}: {type(error).__name__}: {error}")
            return Status.PROGRAM_ERROR
        return OK
