"""A network behind a card's port: frames come in over real sockets, results come out.

The bytes of an image go from the socket into card memory, where the engines find them; the
application sees names and outputs. A frame holds one image, in the network's own layout and dtype.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from accel.errors import AccelError, CardError, InputError
from accel.fpga.card import Card
from accel.fpga.clock import PS_PER_NS, seconds_to_ps
from accel.fpga.ingest import Frame, Ingest
from accel.fpga.memory import Buffer
from accel.fpga.network import Arrays, Network
from accel.fpga.ring import Status

ATTEMPTS = 2
IN_FLIGHT = 32


@dataclass(frozen=True)
class Result:
    """What became of one frame.

    Attributes
    ----------
    outputs : arrays by name, one image's rows; empty with an error
    error : why there are none, e.g. the frame's length is not that of an image
    outcome : "card", "cpu" where the card failed and the CPU computed it, or "error"
    simulated_ns : from the frame's last byte to its result on the host
    """

    name: str
    number: int
    outputs: Arrays
    error: AccelError | None
    outcome: Literal["card", "cpu", "error"]
    simulated_ns: int


@dataclass
class _Batch:
    """Frames gathered into one frame of the network, in card memory."""

    names: list[tuple[str, int]]
    buffer: Buffer
    ready_ps: int
    status: Status | None = None
    done_ps: int = 0
    attempts: int = field(default=0)


class Service:
    """A loaded network fed by an `Ingest`.

    Parameters
    ----------
    card, program : a card, and the slot of a network with one input, loaded on it
    network : that network
    ingest : where frames come from; closed with the service
    deadline : simulated seconds after which a silent card is reset

    Raises
    ------
    InputError
        The network has several inputs.
    CardError
        It is not loaded on this card.
    """

    def __init__(
        self, card: Card, program: int, network: Network, ingest: Ingest, deadline: float = 2.0
    ) -> None:
        if len(network.inputs) != 1:
            raise InputError(
                f"{network.name} has {len(network.inputs)} inputs; a frame brings one image"
            )
        scheduler = card.scheduler
        if scheduler is None or not 0 <= program < len(scheduler.loaded):
            raise CardError(f"{network.name} is not loaded on {card.profile.name}; load it first")
        self.card = card
        self.network = network
        self.ingest = ingest
        self.image_bytes = network.inputs[0].n_bytes // network.images
        self._scheduler = scheduler
        self._program = program
        self._deadline_ps = seconds_to_ps(deadline)
        self._gathered: list[Frame] = []
        self._under_way: deque[_Batch] = deque()
        self._refused: deque[Result] = deque()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: (host, port)."""
        return self.ingest.address

    def results(self, timeout: float | None = None) -> Iterator[Result]:
        """Yield a result for every frame, until none came for `timeout` seconds.

        Frames that are there already share a batch; nobody waits for a batch to fill up. Those of
        a wrong length end in an error at once, the others in their order.
        """
        while True:
            frame = next(self.ingest.frames(0), None)
            if frame is not None:
                self._admit(frame)
            elif self._gathered:
                self._launch()
            if self._refused:
                yield self._refused.popleft()
            elif self._under_way and (frame is None or len(self._under_way) >= IN_FLIGHT):
                yield from self._finish(self._under_way.popleft())
            elif frame is None:
                frame = next(self.ingest.frames(timeout), None)
                if frame is None:
                    return
                self._admit(frame)

    def close(self) -> None:
        """Stop listening."""
        self.ingest.close()

    def __enter__(self) -> Service:
        self.ingest.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ingest.__exit__(kind, error, trace)

    def _admit(self, frame: Frame) -> None:
        if frame.n_bytes == self.image_bytes:
            self._gathered.append(frame)
            if len(self._gathered) == self.network.images:
                self._launch()
            return
        port = self.network.inputs[0]
        frame.release()
        error = InputError(
            f"frame {frame.name!r} has {frame.n_bytes} bytes; an image of {port.name!r} has "
            f"{self.image_bytes}: {port.dtype} {port.shape[1:]}"
        )
        self._refused.append(Result(frame.name, frame.number, {}, error, "error", 0))

    def _launch(self) -> None:
        """Lay the gathered images side by side in card memory and start the engines."""
        memory = self.card.memory
        frames, self._gathered = self._gathered, []
        buffer = memory.allocate(self.network.frame_bytes, 4096)
        for row, frame in enumerate(frames):
            data = memory.view(frame.address, frame.n_bytes)
            memory.write(buffer.address + row * self.image_bytes, data)
            frame.release()
        arrived = max(frame.arrived_ps for frame in frames)
        batch = _Batch([(frame.name, frame.number) for frame in frames], buffer, arrived)
        self._start(batch)
        self._under_way.append(batch)

    def _start(self, batch: _Batch) -> None:
        batch.attempts += 1
        attempt = batch.attempts

        def ended(status: Status) -> None:
            if batch.attempts == attempt:
                batch.status = status
                batch.done_ps = self.card.link.write(self.network.output_bytes, "results")

        self.card.env.call_at(batch.ready_ps,
            lambda: self._scheduler.start(self._program, batch.buffer.address, ended),
        )  # fmt: skip

    def _finish(self, batch: _Batch) -> Iterator[Result]:
        """Let simulated time pass until the batch is computed; the CPU helps a failing card."""
        while True:
            self._wait(batch)
            if batch.status is Status.OK or batch.attempts >= ATTEMPTS:
                break
            batch.status = None
            self._start(batch)
        error: AccelError | None = None
        outcome: Literal["card", "cpu", "error"] = "card"
        if batch.status is not Status.OK:
            outcome, error = self._on_cpu(batch)
        results = self._rows(batch, error, outcome)
        self.card.memory.free(batch.buffer)
        yield from results

    def _wait(self, batch: _Batch) -> None:
        env, deadline = self.card.env, max(self.card.now_ps, batch.ready_ps) + self._deadline_ps
        while batch.status is None and env.step_by(deadline):
            pass
        if batch.status is None:
            self.card.run(max(deadline, self.card.now_ps))
            self.card.reset()

    def _on_cpu(self, batch: _Batch) -> tuple[Literal["cpu", "error"], AccelError | None]:
        memory, network = self.card.memory, self.network
        batch.done_ps = self.card.now_ps
        try:
            network.run(memory, batch.buffer.address)
        except AccelError as error:
            return "error", error
        except Exception as error:  # it must end these frames, not the service
            return "error", CardError(f"{network.name}: {type(error).__name__}: {error}")
        return "cpu", None

    def _rows(
        self, batch: _Batch, error: AccelError | None, outcome: Literal["card", "cpu", "error"]
    ) -> list[Result]:
        outputs = {}
        if error is None:
            raw = self.card.memory.view(
                batch.buffer.address + self.network.output_offset, self.network.output_bytes
            )
            outputs = self.network.unpack_outputs(raw)
        waited = (batch.done_ps - batch.ready_ps) // PS_PER_NS
        images = self.network.images
        return [
            Result(
                name, number,
                {k: a[row] if a.shape[:1] == (images,) else a for k, a in outputs.items()},
                error, outcome, waited,
            )
            for row, (name, number) in enumerate(batch.names)
        ]  # fmt: skip
