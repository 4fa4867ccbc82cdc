"""A simulated FPGA card: its memories, link, DMA engine and compute engines on one event loop.

Values and time are separate. Values come from the functions of the loaded networks, run on the
bytes that descriptors copied into card memory. Time comes from shapes and from the card's profile.
It is not a functional model of any vendor's logic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from accel.errors import CardError, InputError
from accel.fpga.clock import PS_PER_NS, PS_PER_S, Clock, Server, seconds_to_ps
from accel.fpga.context import Command, Direction, QueueContext
from accel.fpga.dma import Dma, DmaSpec
from accel.fpga.engine import EngineSpec
from accel.fpga.fault_text import rules_of
from accel.fpga.faults import Fault, Faults, Rule
from accel.fpga.link import Link, LinkSpec
from accel.fpga.memory import Memory
from accel.fpga.network import Network
from accel.fpga.profile import Profile, load_profile
from accel.fpga.queue import Queue
from accel.fpga.ring import check_ring_size
from accel.fpga.scheduler import Scheduler
from accel.fpga.trace import Trace

MAX_QUEUES = 2048
HOST_PAGES = 2**38
ALL_ONES = 0xFFFF_FFFF
CARD_BASE = 0x40_0000_0000


class LoadError(CardError):
    """A network could not be loaded this time; another attempt may succeed."""


class Card:
    """One card.

    Parameters
    ----------
    card : str or Profile
        Name of a shipped profile (`profile_names()`), or a profile.
    faults : iterable of Rule, or str
        What goes wrong, and when; as text "completion_lost:0.01,hang@5ms" (`fault_text.py`).
    seed : int
        Seed of the faults; the same seed gives the same trace.
    trace : bool
        Whether to record what every component does.

    Examples
    --------
    >>> card = Card("alveo-u50")
    >>> queue = card.queue(ring_size=256)
    >>> here, there = card.host.allocate(4096), card.memory.allocate(4096)
    >>> cid = queue.post("h2c", here.address, there.address, 4096)
    >>> queue.doorbell()
    >>> card.run()
    >>> [c.status.name for c in queue.completions()]
    ['OK']
    """

    def __init__(
        self,
        card: str | Profile = "alveo-u50",
        *,
        faults: str | Iterable[Rule] = (),
        seed: int = 0,
        trace: bool = True,
    ) -> None:
        self.profile = card if isinstance(card, Profile) else load_profile(card)
        self.env = Clock()
        self.trace = Trace(trace, title=self.profile.name)
        self.ready_ps = 0
        self.faults = Faults(
            rules_of(faults), seed,
            lambda: (self.now_ps - self.ready_ps) / PS_PER_S,
            lambda kind: self.trace.moment("faults", kind.name.lower(), self.now_ps),
        )  # fmt: skip
        self.host = Memory("host memory", HOST_PAGES)
        self.memory = Memory("card memory", int(self.profile.value("memory.capacity")), CARD_BASE)
        recorder = self.trace.recorder
        self.link = Link(self.env, LinkSpec.from_profile(self.profile), recorder)
        self.ports: dict[Direction, Server] = {
            "h2c": Server(self.env, "dma in", recorder),
            "c2h": Server(self.env, "dma out", recorder),
        }
        self.dma = Dma(
            self.env, DmaSpec.from_profile(self.profile), self.host, self.memory, self.ports,
            self.profile.value("memory.bandwidth"), self.link, self.faults, self.trace,
        )  # fmt: skip
        self.scheduler: Scheduler | None = None
        if self.profile.has_engine:
            spec = EngineSpec.from_profile(self.profile)
            self.scheduler = Scheduler(self.env, spec, self.memory, self.faults, self.trace)
            self.dma.start_program = partial(self._start_program, self.scheduler)
        self.queues: list[Queue] = []
        self.on_reset: list[Callable[[], None]] = []
        self._generation = 0
        self._gone_until_ps = 0
        self._configured = False

    @property
    def now_ps(self) -> int:
        """Simulated picoseconds since the card was made."""
        return self.env.now

    @property
    def status_register(self) -> int:
        """The card's generation, or all ones when it does not answer."""
        return self._generation & 0xFFFF if self.dma.alive else ALL_ONES

    def queue(self, ring_size: int = 256) -> Queue:
        """Open a queue whose three rings have `ring_size` entries each.

        Raises InputError for a size that is not a power of two in 64 … 16384, and CardError
        when the card has no queue left.
        """
        check_ring_size(ring_size)
        if len(self.queues) >= MAX_QUEUES:
            raise CardError(f"all {MAX_QUEUES} queues of {self.profile.name} are open")
        queue = Queue(self, len(self.queues), ring_size)
        self.queues.append(queue)
        return queue

    def load(self, network: Network) -> int:
        """Load a network and its weights; return the program slot.

        The first one configures the card, which takes seconds of simulated time (`ready_ps` is when
        it is done); each takes the time of its weights over the link.

        Raises CardError when the card has no engine or its memory cannot hold the weights, and
        LoadError when the reconfiguration fails.
        """
        if self.scheduler is None:
            raise CardError(
                f"card {self.profile.name} only moves bytes, it has no compute engine; "
                f"choose another card"
            )
        self._configure()
        if self.faults.fires(Fault.LOAD_FAILURE):
            self._configured = False
            raise LoadError(f"{self.profile.name}: reconfiguration for {network.name} failed")
        if network.weight_bytes:
            self.memory.allocate(network.weight_bytes, blank=True)  # the network holds the values
            self.run(self.link.read(network.weight_bytes, "weights"))
        if not self.scheduler.loaded:
            self.ready_ps = self.now_ps
        return self.scheduler.load(network)

    def _configure(self) -> None:
        """Let the time pass that the card takes until its engines are there."""
        if not self._configured:
            end = self.now_ps + seconds_to_ps(self.profile.value("card.configure"))
            self.trace.span("card", "configure", self.now_ps, end)
            self.run(end)
            self._configured = True

    def run(self, until_ps: int | None = None) -> None:
        """Let time pass: until nothing is left to happen, or to `until_ps`.

        Raises InputError when `until_ps` lies in the past.
        """
        if until_ps is None:
            self.env.run()
        elif until_ps < self.now_ps:
            raise InputError(f"cannot run to {until_ps} ps: it is {self.now_ps} ps already")
        elif until_ps > self.now_ps:
            self.env.run(until=until_ps)

    def reset(self) -> None:
        """Drop all work, empty all rings and start a new generation of command ids.

        Whoever put a function into `on_reset` is told when it is done.

        Raises CardError while the card is not in its slot.
        """
        if self.now_ps < self._gone_until_ps:
            raise CardError(f"{self.profile.name} does not answer: every register reads all ones")
        self._generation += 1
        self.dma.reset()
        self.link.clear()
        for port in self.ports.values():
            port.clear()
        if self.scheduler is not None:
            self.scheduler.reset()
        for queue in self.queues:
            queue.reopen()
        for listener in self.on_reset:
            listener()

    def remove(self, seconds: float) -> None:
        """Take the card out of its slot for `seconds`; it needs a reset when it is back."""
        self._gone_until_ps = self.now_ps + seconds_to_ps(seconds)
        self.dma.die()
        if self.scheduler is not None:
            self.scheduler.reset()

    def stats(self) -> dict[str, dict[str, float]]:
        """Return per component its utilisation (0 to 1), busy time in ns and pieces of work.

        Time counts from when the card is ready. "faults" tells how often each has struck.
        """
        elapsed = max(1, self.now_ps - self.ready_ps)
        table: dict[str, dict[str, float]] = {
            server.name: {
                "utilisation": min(1.0, server.busy_ps / elapsed),
                "busy_ns": server.busy_ps / PS_PER_NS,
                "served": server.served,
            }
            for server in self._servers()
        }
        table["card"] = {"elapsed_s": elapsed / PS_PER_S} | dict(self.dma.counts)
        if self.scheduler is not None:
            table["card"]["images"] = self.scheduler.images
            table["card"]["ready_s"] = self.ready_ps / PS_PER_S
        table["faults"] = {kind.name.lower(): n for kind, n in self.faults.fired.items()}
        return table

    def bottleneck(self) -> str:
        """Return the name of the busiest component."""
        return max(self._servers(), key=lambda server: server.busy_ps).name

    def _servers(self) -> list[Server]:
        engines = [] if self.scheduler is None else self.scheduler.engines
        shared = [] if self.scheduler is None else [self.scheduler.channels]
        return [self.link.up, self.link.down, *self.ports.values(), *shared, *engines]

    def _start_program(self, scheduler: Scheduler, context: QueueContext, command: Command) -> None:
        flow = context.flow(command.cid, command.generation) if self.trace.enabled else None
        scheduler.start(
            command.program,
            command.frame,
            lambda status: self.dma.program_done(context, command, status),
            flow,
        )
