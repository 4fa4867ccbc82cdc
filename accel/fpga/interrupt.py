"""From a completion entry to the waiting thread: an interrupt, held back to spare the host.

An interrupt is sent when `count` completions wait, or when the oldest has waited for the timer;
Xilinx QDMA offers counts of 2 to 192 and timers of 1 to 200 us. A count of 1 is no moderation.
"""

from __future__ import annotations

from collections.abc import Callable

from accel.fpga.clock import Clock, seconds_to_ps
from accel.fpga.faults import Fault, Faults


class Interrupt:
    """Moderates the completions of one queue.

    Parameters
    ----------
    env, faults : of the card
    count : completions that send an interrupt at once
    timer : seconds the oldest completion waits at most
    latency : seconds from the interrupt to the waiting thread
    handler : called when the thread has woken up
    """

    def __init__(
        self,
        env: Clock,
        faults: Faults,
        count: int,
        timer: float,
        latency: float,
        handler: Callable[[], None],
    ) -> None:
        self.env = env
        self.faults = faults
        self.count = count
        self.sent = 0
        self._timer_ps = seconds_to_ps(timer)
        self._latency_ps = seconds_to_ps(latency)
        self._handler = handler
        self._waiting = 0
        self._round = 0

    def completion(self) -> None:
        """Take note that the card has written a completion."""
        self._waiting += 1
        if self._waiting >= self.count:
            self._send()
        elif self._waiting == 1:
            this = self._round
            later = self.env.now + self._timer_ps
            self.env.call_at(later, lambda: self._send() if self._round == this else None)

    def clear(self) -> None:
        """Forget what waits, as a reset does."""
        self._waiting = 0
        self._round += 1

    def _send(self) -> None:
        self.clear()
        if self.faults.fires(Fault.INTERRUPT_LOST):
            return
        self.sent += 1
        self.env.call_at(self.env.now + self._latency_ps, self._handler)
