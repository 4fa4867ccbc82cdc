"""The driver: turns a batch of arrays into descriptors, and a completion into arrays.

When a deadline passes `recovery.py` takes over. Every request ends exactly once: as a card result,
as a CPU result that says so, or as an error.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Literal

from accel.errors import CardError, InputError
from accel.fpga.card import ALL_ONES, Card, LoadError
from accel.fpga.clock import Server, seconds_to_ps
from accel.fpga.interrupt import Interrupt
from accel.fpga.network import Arrays, Network
from accel.fpga.plan import Plan
from accel.fpga.recovery import Recovery
from accel.fpga.request import DriverSpec, Request
from accel.fpga.ring import OK, Completion, Status
from accel.fpga.slots import Slot, Slots


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
        self._recovery = Recovery(self)
        self.networks: dict[int, Network] = {}
        self._plans: dict[int, Plan] = {}
        self._slots = Slots(card.host, card.memory)
        self._by_cid: dict[int, Request] = {}
        self._submit_ps = seconds_to_ps(self.spec.submit)
        self._deadline_ps = seconds_to_ps(self.spec.deadline)
        self.host = Server(card.env, f"host thread {self.queue.qid}", card.trace.recorder)
        self._numbers = 0
        self.interrupt = Interrupt(
            card.env,
            card.faults,
            self.spec.interrupt_count,
            self.spec.interrupt_timer,
            self.spec.notify,
            self.collect,
        )
        self._attach()
        card.on_reset.append(self._after_reset)

    def load(self, network: Network) -> int:
        """Load a network, trying again after a failure; return its program slot.

        When no attempt succeeds the network is left to the CPU. Raises CardError without fallback,
        and for a network this card can never hold.
        """
        plan = Plan(network)
        if plan.longest > self.queue.ring_size:
            raise CardError(
                f"{network.name}: a batch takes {plan.longest} descriptors, the ring holds "
                f"{self.queue.ring_size}; use a smaller batch or a larger ring"
            )
        self.depth = min(self.depth, self.queue.ring_size // plan.longest)
        for _ in range(self.spec.attempts):
            try:
                slot = self.card.load(network)
            except LoadError:
                self.counts["load failures"] += 1
                continue
            self.networks[slot], self._plans[slot] = network, plan
            return slot
        if not self.fallback:
            raise CardError(f"{network.name}: loading failed {self.spec.attempts} times")
        slot = -len(self.networks) - 1  # no slot on the card has a negative number
        self.networks[slot] = network
        return slot

    def submit(self, program: int, inputs: Arrays) -> Request:
        """Start one batch and return at once; makes room first when `depth` are under way."""
        if program not in self.networks:
            raise InputError(f"program {program} is not loaded; loaded: {sorted(self.networks)}")
        while len(self.live) >= self.depth:
            self._settle(next(iter(self.live.values())))
        request = Request(self._numbers, inputs, self.card.now_ps, program)
        self._numbers += 1
        if self.card.status_register == ALL_ONES:
            request.steps.append("reset")
            self._recovery.reset()
        if program >= 0:
            request.slot = self._room_for(self.networks[program])
        self.live[request.number] = request
        self._recovery.replay(request)
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
        env, deadline = self.card.env, self._first_deadline()
        if not env.step_by(deadline):
            self.card.run(max(deadline, self.card.now_ps))
        for request in list(self.live.values()):
            if not request.outcome and self.card.now_ps >= request.deadline_ps:
                self._recovery.recover(request)

    def _first_deadline(self) -> int:
        return min(request.deadline_ps for request in self.live.values())

    def _settle(self, request: Request) -> None:
        env, step_by = self.card.env, self.card.env.step_by
        while not request.outcome:
            if not step_by(request.deadline_ps):
                self.card.run(max(request.deadline_ps, self.card.now_ps))
            if env.now >= request.deadline_ps and not request.outcome:
                self._recovery.recover(request)

    def start(self, request: Request) -> None:
        """Place the inputs in pinned memory, write descriptors, ring the doorbell."""
        network = self.networks[request.program]
        assert request.slot is not None
        if not network.blank:
            pinned = self.card.host.view(request.slot[0].address, network.input_bytes)
            network.pack_inputs(request.inputs, pinned)
        request.attempts += 1
        request.reminded = False
        cid = request.cid = self.queue.new_command()
        self._by_cid[cid] = request
        work = self._submit_ps
        if network.stage_seconds:
            work += seconds_to_ps(network.stage_seconds * network.images)
        ready = self.host.reserve(work, f"submit {request.number}")
        request.deadline_ps = ready + self.patience_ps(request)
        generation = self.queue.generation
        if self.card.trace.enabled:
            flow = self.queue.context.flow(cid, generation)
            self.card.trace.flow(flow, self.host.name, ready - work)

        def ring() -> None:
            if generation != self.queue.generation or request.cid != cid:
                return
            try:
                self._post(request, network, cid)
            except CardError:  # the ring filled up with descriptors of lost doorbells
                self.counts["ring full"] += 1
            self.queue.doorbell()

        self.card.env.call_at(ready, ring)

    def patience_ps(self, request: Request) -> int:
        """Bound the wait: the deadline, and twice what all live requests take on one engine."""
        scheduler = self.card.scheduler
        work = scheduler.loaded[request.program] if scheduler is not None else None
        frame = work.image_ps * work.network.images if work is not None else 0
        return self._deadline_ps + 2 * frame * (len(self.live) + 1)

    def _post(self, request: Request, network: Network, cid: int) -> None:
        assert request.slot is not None
        pinned, results, frame = request.slot
        here, there = pinned.address, frame.address
        plan, post = self._plans[request.program], self.queue.post
        view = None if network.blank else self.card.host.view(here, network.input_bytes)
        for start, length, flags in plan.inputs:
            checksum = 0 if view is None else zlib.crc32(view[start : start + length].data)
            post("h2c", here + start, there + start, length, cid=cid, flags=flags,
                 program=request.program, checksum=checksum)  # fmt: skip
        here, there = frame.address + network.output_offset, results.address
        for start, length, flags in plan.outputs:
            post("c2h", here + start, there + start, length, cid=cid, flags=flags)

    def collect(self) -> None:
        """Read the completion ring and end, or repeat, the requests it names."""
        for completion in self.queue.completions():
            request = self._by_cid.pop(completion.cid, None)
            if request is not None and request.cid == completion.cid and not request.outcome:
                self._ended(request, completion)

    def _ended(self, request: Request, completion: Completion) -> None:
        assert request.slot is not None
        network = self.networks[request.program]
        status, outputs = completion.status, network.compute({}) if network.blank else {}
        if not network.blank and completion.ok:
            raw = self.card.host.view(request.slot[1].address, network.output_bytes)
            if zlib.crc32(raw.data) != completion.checksum:
                status = Status.LINK_ERROR
            else:
                outputs = network.unpack_outputs(raw)
        request.cid = None
        if status is OK:
            request.outputs = outputs
            self._finish_on_host(request, network.host_seconds * network.images)
        else:
            self._recovery.repeat(request, status)

    def _finish_on_host(self, request: Request, seconds: float) -> None:
        """End a request once the host has done its share of the network."""
        if seconds:
            end = self.host.reserve(seconds_to_ps(seconds), f"finish {request.number}")
            request.deadline_ps = end + self._deadline_ps
            self.card.env.call_at(end, lambda: self.finish(request, "card"))
        else:
            self.finish(request, "card")

    def finish(self, request: Request, outcome: Literal["card", "cpu", "error"]) -> None:
        """End a request, once; its buffers go back."""
        if request.outcome:
            return
        request.outcome = outcome
        request.done_ps = self.card.env.now
        del self.live[request.number]
        if self.card.trace.enabled:
            self.card.trace.request(
                f"request {request.number}", outcome, request.submitted_ps, request.done_ps
            )
        if request.slot is not None:
            self._slots.free(request.slot)
            request.slot = None

    def _after_reset(self) -> None:
        self._by_cid.clear()
        self._attach()
        self._recovery.replay_all()

    def _attach(self) -> None:
        self.interrupt.clear()
        self.queue.context.on_completion = self.interrupt.completion

    def _room_for(self, network: Network) -> Slot:
        """Allocate buffers; when memory is full, wait for requests that give theirs back."""
        while True:
            try:
                return self._slots.allocate(network)
            except CardError:
                if not self.live:
                    raise
            self._settle(next(iter(self.live.values())))
