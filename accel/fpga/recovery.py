"""What a driver does for requests that went wrong: poll, abort, reset, replay, and at last the CPU.

Each step is bounded in simulated time, and so is how often a request is tried on the card.

Source: the order of recovery of the FreeBSD NVMe driver (nvme(4)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.errors import AccelError, CardError
from accel.fpga.card import ALL_ONES
from accel.fpga.clock import seconds_to_ps
from accel.fpga.request import Request
from accel.fpga.ring import Status

if TYPE_CHECKING:
    from accel.fpga.driver import Driver


class Recovery:
    """The steps for the requests of one driver."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def _step(self, request: Request, name: str) -> None:
        """Note a step: in the request, in the counts and in the trace."""
        card = self._driver.card
        request.steps.append(name)
        self._driver.counts[name] += 1
        card.trace.moment("recovery", f"{name} {request.number}", card.now_ps)

    def repeat(self, request: Request, status: Status) -> None:
        """Replay a request the card reported as failed, or hand it on."""
        self._driver.counts[status.name.lower()] += 1
        scheduler = self._driver.card.scheduler
        if status is Status.PROGRAM_ERROR and scheduler is not None and scheduler.last_error:
            request.error = scheduler.last_error  # the network itself failed: it would again
            scheduler.last_error = None
            self._driver.finish(request, "error")
        elif status is Status.FIREWALL:
            request.steps.append("reset")
            self.reset()
        else:
            self.replay(request)

    def recover(self, request: Request) -> None:
        """Go through the steps of recovery until the request is done or under way again."""
        self._step(request, "poll")
        self._driver.collect()
        if request.outcome or request.cid is None:
            return
        if not request.reminded:
            request.reminded = True
            self._driver.queue.doorbell(again=True)
            request.deadline_ps = self._driver.card.now_ps + self._driver.patience_ps(request)
            return
        self._step(request, "abort")
        queue = self._driver.queue
        if self._driver.card.dma.abort(queue.context, request.cid, queue.generation):
            queue.forget(request.cid)
            request.cid = None
            self.replay(request)
        else:
            request.steps.append("reset")
            self.reset()

    def reset(self) -> None:
        """Reset the card; `_after_reset` goes on, on whose behalf ever it is reset."""
        self._driver.counts["reset"] += 1
        self._driver.host.reserve(seconds_to_ps(self._driver.spec.reset_time), "reset")
        try:
            self._driver.card.reset()
        except CardError:
            self._driver.counts["reset failed"] += 1
            self.replay_all()

    def replay_all(self) -> None:
        """Start everything again that was under way on the card, oldest first."""
        for request in list(self._driver.live.values()):
            if request.outputs:
                continue  # only the host's share is left
            request.cid = None
            self.replay(request)

    def replay(self, request: Request) -> None:
        """Start a request on the card if it may still be tried there, else on the CPU."""
        answers = self._driver.card.status_register != ALL_ONES
        if request.program < 0 or request.attempts >= self._driver.spec.attempts or not answers:
            self._on_cpu(request)
            return
        if request.attempts:
            self._step(request, "replay")
        self._driver.start(request)

    def _on_cpu(self, request: Request) -> None:
        """End the request with the network's own function, or with an error."""
        self._step(request, "cpu")
        network = self._driver.networks[request.program]
        if not self._driver.fallback:
            request.error = CardError(
                f"{self._driver.card.profile.name}: request {request.number} failed after "
                f"{', '.join(request.steps[:-1]) or 'no attempt'}; run it on 'cpu'"
            )
            self._driver.finish(request, "error")
            return
        try:
            request.outputs = network.compute(request.inputs)
        except Exception as error:  # it must end this request, not the event loop
            request.error = error if isinstance(error, AccelError) else CardError(f"cpu: {error}")
        self._driver.finish(request, "error" if request.error else "cpu")
