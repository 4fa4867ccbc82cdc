"""The driver: turns a batch of arrays into descriptors, and a completion into arrays.

When a deadline passes it recovers in this order, each step bounded in time: poll the completions,
abort the command, reset the card, replay, and at last compute on the CPU. Every request ends
exactly once: as a card result, as a CPU result that says so, or as an error.

Source: the order of recovery of the FreeBSD NVMe driver (nvme(4)).
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Literal

from accel.errors import AccelError, CardError, InputError
from accel.fpga.card import ALL_ONES, Card, LoadError
from accel.fpga.clock import Server, call_at, seconds_to_ps
from accel.fpga.interrupt import Interrupt
from accel.fpga.network import Arrays, Network
from accel.fpga.request import DriverSpec, Request, Slot
from accel.fpga.ring import Completion, Flag, Status

MAX_PIECE = 4 << 20
"""Bytes of one descriptor at most; larger arrays take several."""


class Driver:
    """Runs requests on one card through one queue.

    Parameters
    ----------
    card : Card
    ring_size : entries of each ring
    fallback : whether a request the card cannot finish is computed on the CPU; otherwise it ends
        with a CardError
    spec : DriverSpec, default from the card's profile
    """

    def __init__(
        self,
        card: Card,
        ring_size: int = 256,
        fallback: bool = True,
        spec: DriverSpec | None = None,
    ) -> None:
        self.card = card
        self.spec = spec or DriverSpec.from_profile(card.profile)
        self.fallback = fallback
        self.queue = card.queue(ring_size)
        self.counts: Counter[str] = Counter()
        self.depth = self.spec.depth
        self.live: dict[int, Request] = {}
        self._networks: dict[int, Network] = {}
        self._host = Server(card.env, "host thread", card.trace.span)
        self._numbers = 0
        self.interrupt = Interrupt(
            card.env,
            card.faults,
            self.spec.interrupt_count,
            self.spec.interrupt_timer,
            self.spec.notify,
            self._collect,
        )
        self._attach()
        card.on_reset.append(self._after_reset)

    def load(self, network: Network) -> int:
        """Load a network, trying again after a failure; return its program slot.

        When no attempt succeeds the network is left to the CPU. Raises CardError without fallback,
        and for a network this card can never hold.
        """
        pieces = len(_pieces(max(network.input_bytes, network.output_bytes)))
        if pieces > self.queue.ring_size:
            raise CardError(
                f"{network.name}: a batch takes {pieces} descriptors, the ring holds "
                f"{self.queue.ring_size}; use a smaller batch or a larger ring"
            )
        self.depth = min(self.depth, self.queue.ring_size // pieces)
        for _ in range(self.spec.attempts):
            try:
                slot = self.card.load(network)
            except LoadError:
                self.counts["load failures"] += 1
                continue
            self._networks[slot] = network
            return slot
        if not self.fallback:
            raise CardError(f"{network.name}: loading failed {self.spec.attempts} times")
        slot = -len(self._networks) - 1  # no slot on the card has a negative number
        self._networks[slot] = network
        return slot

    def submit(self, program: int, inputs: Arrays) -> Request:
        """Start one batch and return at once; makes room first when `depth` are under way."""
        if program not in self._networks:
            raise InputError(f"program {program} is not loaded; loaded: {sorted(self._networks)}")
        while len(self.live) >= self.depth:
            self._settle(next(iter(self.live.values())))
        request = Request(self._numbers, inputs, self.card.now_ps, program)
        self._numbers += 1
        if self.card.status_register == ALL_ONES:
            request.steps.append("reset")
            self._reset()
        if program >= 0:
            request.slot = self._room_for(self._networks[program])
        self.live[request.number] = request
        self._replay(request)
        return request

    def wait(self, request: Request) -> Arrays:
        """Let simulated time pass until the request has ended; return its outputs.

        Raises the CardError the request ended with, if it ended so.
        """
        self._settle(request)
        if request.error is not None:
            raise request.error
        return request.outputs

    def run_until(self, time_ps: int) -> None:
        """Let simulated time pass to `time_ps`, and recover requests whose deadline passes."""
        while self.live and self._first_deadline() <= time_ps:
            self.step()
        if time_ps > self.card.now_ps:
            self.card.run(time_ps)

    def step(self) -> None:
        """Take the next simulated event, and recover the requests whose deadline has passed."""
        if not self.live:
            return
        self._advance(self._first_deadline())
        for request in list(self.live.values()):
            if not request.outcome and self.card.now_ps >= request.deadline_ps:
                self._recover(request)

    def _first_deadline(self) -> int:
        return min(request.deadline_ps for request in self.live.values())

    def _settle(self, request: Request) -> None:
        while not request.outcome:
            self._advance(request.deadline_ps)
            if not request.outcome and self.card.now_ps >= request.deadline_ps:
                self._recover(request)

    def _advance(self, deadline_ps: int) -> None:
        """Take one simulated event, or go to the deadline when none comes before it."""
        env = self.card.env
        if env.peek() <= deadline_ps:
            env.step()
        else:
            self.card.run(max(deadline_ps, self.card.now_ps))

    def _start(self, request: Request) -> None:
        """Place the inputs in pinned memory, write descriptors, ring the doorbell."""
        network = self._networks[request.program]
        assert request.slot is not None
        pinned, _, _ = request.slot
        network.pack_inputs(
            request.inputs, self.card.host.view(pinned.address, network.input_bytes)
        )
        request.attempts += 1
        request.reminded = False
        cid = request.cid = self.queue.new_command()
        ready = self._host.reserve(seconds_to_ps(self.spec.submit), f"submit {request.number}")
        request.deadline_ps = ready + self._patience_ps(request)
        generation = self.queue.generation
        flow = self.queue.context.flow(cid, generation)
        self.card.trace.flow(flow, self._host.name, ready)

        def ring() -> None:
            if generation != self.queue.generation or request.cid != cid:
                return
            try:
                self._post(request, network, cid)
            except CardError:  # the ring filled up with descriptors of lost doorbells
                self.counts["ring full"] += 1
            self.queue.doorbell()

        call_at(self.card.env, ready, ring)

    def _patience_ps(self, request: Request) -> int:
        """Bound the wait: the deadline, and twice what all live requests take on one engine."""
        scheduler = self.card.scheduler
        work = scheduler.loaded[request.program] if scheduler is not None else None
        frame = work.image_ps * work.network.images if work is not None else 0
        return seconds_to_ps(self.spec.deadline) + 2 * frame * (len(self.live) + 1)

    def _post(self, request: Request, network: Network, cid: int) -> None:
        assert request.slot is not None
        pinned, results, frame = request.slot
        view = self.card.host.view(pinned.address, network.input_bytes)
        pieces = _pieces(network.input_bytes)
        for start, length in pieces:
            self.queue.post(
                "h2c", pinned.address + start, frame.address + start, length, cid=cid,
                flags=_ends(start, length, network.input_bytes) | Flag.RUN | Flag.CHECK,
                program=request.program, checksum=zlib.crc32(view[start : start + length].data),
            )  # fmt: skip
        source = frame.address + network.output_offset
        for start, length in _pieces(network.output_bytes):
            self.queue.post(
                "c2h", source + start, results.address + start, length, cid=cid,
                flags=_ends(start, length, network.output_bytes) | Flag.AFTER | Flag.CHECK,
            )  # fmt: skip

    def _collect(self) -> None:
        """Read the completion ring and end, or repeat, the requests it names."""
        by_cid = {r.cid: r for r in self.live.values() if r.cid is not None}
        for completion in self.queue.completions():
            request = by_cid.get(completion.cid)
            if request is not None and not request.outcome:
                self._ended(request, completion)

    def _ended(self, request: Request, completion: Completion) -> None:
        assert request.slot is not None
        flow = self.queue.context.flow(completion.cid, completion.generation)
        self.card.trace.flow(flow, self._host.name, self.card.now_ps)
        network = self._networks[request.program]
        raw = self.card.host.view(request.slot[1].address, network.output_bytes)
        status = completion.status
        if completion.ok and zlib.crc32(raw.data) != completion.checksum:
            status = Status.LINK_ERROR
        request.cid = None
        if status is Status.OK:
            request.outputs = network.unpack_outputs(raw)
            self._finish_on_host(request, network.host_seconds * network.images)
        else:
            self._repeat(request, status)

    def _finish_on_host(self, request: Request, seconds: float) -> None:
        """End a request once the host has done its share of the network."""
        end = self._host.reserve(seconds_to_ps(seconds), f"finish {request.number}")
        if seconds:
            request.deadline_ps = end + seconds_to_ps(self.spec.deadline)
            call_at(self.card.env, end, lambda: self._finish(request, "card"))
        else:
            self._finish(request, "card")

    def _repeat(self, request: Request, status: Status) -> None:
        """Replay a request the card reported as failed, or hand it on."""
        self.counts[status.name.lower()] += 1
        scheduler = self.card.scheduler
        if status is Status.PROGRAM_ERROR and scheduler is not None and scheduler.last_error:
            request.error = scheduler.last_error  # the network itself failed: it would again
            scheduler.last_error = None
            self._finish(request, "error")
        elif status is Status.FIREWALL:
            request.steps.append("reset")
            self._reset()
        else:
            self._replay(request)

    def _recover(self, request: Request) -> None:
        """Go through the steps of recovery until the request is done or under way again."""
        request.steps.append("poll")
        self.counts["poll"] += 1
        self._collect()
        if request.outcome or request.cid is None:
            return
        if not request.reminded:
            request.reminded = True
            self.queue.doorbell(again=True)
            request.deadline_ps = self.card.now_ps + self._patience_ps(request)
            return
        request.steps.append("abort")
        self.counts["abort"] += 1
        queue = self.queue
        if self.card.dma.abort(queue.context, request.cid, queue.generation):
            queue.forget(request.cid)
            request.cid = None
            self._replay(request)
        else:
            request.steps.append("reset")
            self._reset()

    def _reset(self) -> None:
        """Reset the card; `_after_reset` goes on, on whose behalf ever it is reset."""
        self.counts["reset"] += 1
        self._host.reserve(seconds_to_ps(self.spec.reset_time), "reset")
        try:
            self.card.reset()
        except CardError:
            self.counts["reset failed"] += 1
            self._replay_all()

    def _after_reset(self) -> None:
        self._attach()
        self._replay_all()

    def _replay_all(self) -> None:
        """Start everything again that was under way on the card, oldest first."""
        for request in list(self.live.values()):
            if request.outputs:
                continue  # only the host's share is left
            request.cid = None
            self._replay(request)

    def _replay(self, request: Request) -> None:
        """Start a request on the card if it may still be tried there, else on the CPU."""
        answers = self.card.status_register != ALL_ONES
        if request.program < 0 or request.attempts >= self.spec.attempts or not answers:
            self._on_cpu(request)
            return
        if request.attempts:
            request.steps.append("replay")
            self.counts["replay"] += 1
        self._start(request)

    def _on_cpu(self, request: Request) -> None:
        """End the request with the network's own function, or with an error."""
        request.steps.append("cpu")
        self.counts["cpu"] += 1
        network = self._networks[request.program]
        if not self.fallback:
            request.error = CardError(
                f"{self.card.profile.name}: request {request.number} failed after "
                f"{', '.join(request.steps[:-1]) or 'no attempt'}; run it on 'cpu'"
            )
            self._finish(request, "error")
            return
        try:
            request.outputs = network.compute(request.inputs)
        except Exception as error:  # it must end this request, not the event loop
            request.error = error if isinstance(error, AccelError) else CardError(f"cpu: {error}")
        self._finish(request, "error" if request.error else "cpu")

    def _finish(self, request: Request, outcome: Literal["card", "cpu", "error"]) -> None:
        if request.outcome:
            return
        request.outcome = outcome
        request.done_ps = self.card.now_ps
        del self.live[request.number]
        if request.slot is not None:
            self._free(request.slot)
            request.slot = None

    def _attach(self) -> None:
        self.interrupt.clear()
        self.queue.context.on_completion = self.interrupt.completion

    def _room_for(self, network: Network) -> Slot:
        """Allocate buffers; when memory is full, wait for requests that give theirs back."""
        while True:
            try:
                return self._new_slot(network)
            except CardError:
                if not self.live:
                    raise
            self._settle(next(iter(self.live.values())))

    def _new_slot(self, network: Network) -> Slot:
        host, memory = self.card.host, self.card.memory
        frame = memory.allocate(network.frame_bytes, 4096)  # first: the card fills up, not the host
        pinned = host.allocate(network.input_bytes, 4096)
        return pinned, host.allocate(network.output_bytes, 4096), frame

    def _free(self, slot: Slot) -> None:
        pinned, results, frame = slot
        self.card.host.free(pinned)
        self.card.host.free(results)
        self.card.memory.free(frame)


def _pieces(n_bytes: int) -> list[tuple[int, int]]:
    """Return (start, length) of the descriptors `n_bytes` are cut into."""
    return [(s, min(MAX_PIECE, n_bytes - s)) for s in range(0, n_bytes, MAX_PIECE)]


def _ends(start: int, length: int, total: int) -> Flag:
    first = Flag.FIRST if start == 0 else Flag(0)
    return first | (Flag.LAST if start + length == total else Flag(0))
