"""The other end of the line: sends frames to a card's network port, and again when no answer comes.

UDP loses packets without a word, so a request has a deadline and a bounded number of attempts; it
ends exactly once, with its outputs or with a CardError.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accel.errors import CardError
from accel.fpga.card import Card
from accel.fpga.clock import seconds_to_ps
from accel.fpga.network import Arrays
from accel.fpga.nic import Nic
from accel.fpga.packet import DEFAULT_PAYLOAD, HEADER, Assembly, split


@dataclass
class Exchange:
    """One request over the network: its attempts, and its outputs once it has ended."""

    number: int
    inputs: Arrays
    started_ps: int
    attempts: int = 0
    answer: NDArray[np.uint8] | None = None
    assembly: Assembly | None = None
    done_ps: int = 0
    outputs: Arrays = field(default_factory=dict)

    @property
    def simulated_ns(self) -> int:
        """Nanoseconds from the first packet to the last byte of the answer."""
        return (self.done_ps - self.started_ps) // 1000


class NicClient:
    """The other end of the line: sends frames, repeats those that get no answer.

    Parameters
    ----------
    card, program : a card with a port, and the slot of a loaded network
    payload : bytes of a packet, header included
    deadline : seconds after which a request is sent again
    attempts : how often it is sent before it ends in a CardError
    """

    def __init__(
        self,
        card: Card,
        program: int,
        payload: int = DEFAULT_PAYLOAD,
        deadline: float = 5e-3,
        attempts: int = 4,
    ) -> None:
        self.nic = Nic(card, program, self._receive, payload)
        self.card = card
        self.payload = payload
        self.attempts = attempts
        self.stale = 0
        self._deadline_ps = seconds_to_ps(deadline)
        self._open: dict[int, Exchange] = {}
        self._numbers = 0

    @property
    def waiting(self) -> int:
        """Requests that have not ended."""
        return len(self._open)

    def submit(self, inputs: Arrays) -> Exchange:
        """Send one frame and return at once."""
        exchange = Exchange(self._numbers, inputs, self.card.now_ps)
        self._numbers += 1
        self._open[exchange.number] = exchange
        self._send(exchange)
        return exchange

    def wait(self, exchange: Exchange) -> Arrays:
        """Let simulated time pass until the answer is there.

        Raises CardError when the last attempt got none.
        """
        while exchange.number in self._open:
            deadline = self.card.now_ps + self._deadline_ps
            while exchange.number in self._open and self.card.env.step_by(deadline):
                pass
            if exchange.number not in self._open:
                break
            self.card.run(max(deadline, self.card.now_ps))
            if exchange.attempts >= self.attempts:
                del self._open[exchange.number]
                raise CardError(
                    f"{self.card.profile.name}: no answer over the network to request "
                    f"{exchange.number} after {exchange.attempts} attempts"
                )
            self._send(exchange)
        return exchange.outputs

    def _send(self, exchange: Exchange) -> None:
        network = self.nic.network
        frame = np.zeros(network.input_bytes, np.uint8)
        network.pack_inputs(exchange.inputs, frame)
        exchange.attempts += 1
        for packet in split(frame, exchange.number, exchange.attempts, self.payload):
            self.nic.send(packet)

    def _receive(self, packet: bytes) -> None:
        header = np.frombuffer(packet[: HEADER.itemsize], HEADER)[0]
        exchange = self._open.get(int(header["request"]))
        if exchange is None:
            self.stale += 1
            return
        if exchange.answer is None or exchange.assembly is None:
            exchange.answer = np.zeros(self.nic.network.output_bytes, np.uint8)
            exchange.assembly = Assembly(exchange.answer.size, 0)
        offset, length = int(header["offset"]), int(header["length"])
        data = np.frombuffer(packet[HEADER.itemsize :], np.uint8)
        exchange.answer[offset : offset + length] = data
        if exchange.assembly.add(offset, length):
            exchange.outputs = self.nic.network.unpack_outputs(exchange.answer)
            exchange.done_ps = self.card.now_ps
            del self._open[exchange.number]
