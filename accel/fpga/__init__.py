"""A simulated FPGA card: real bytes in rings and memories, simulated time from published figures.

Usable without the rest of the library:

    card = accel.fpga.Card("alveo-u50")
    queue = card.queue(ring_size=256)
"""

from __future__ import annotations

from accel.fpga.card import Card
from accel.fpga.driver import Driver
from accel.fpga.faults import Fault, Faults, Rule
from accel.fpga.frame import send
from accel.fpga.ingest import Frame, Ingest
from accel.fpga.network import Network
from accel.fpga.nic import Nic
from accel.fpga.nic_client import NicClient
from accel.fpga.predict import Prediction, predict
from accel.fpga.profile import Profile, Quantity, load_profile, profile_names
from accel.fpga.queue import Queue
from accel.fpga.request import DriverSpec, Request
from accel.fpga.ring import Completion, Flag, Status
from accel.fpga.service import Result, Service
from accel.fpga.stream import Stream
from accel.fpga.topologies import topology
from accel.fpga.trace import Trace
from accel.fpga.transfer import hardware_curve, software_curve

__all__ = [
    "Card",
    "Completion",
    "Driver",
    "DriverSpec",
    "Fault",
    "Faults",
    "Flag",
    "Frame",
    "Ingest",
    "Network",
    "Nic",
    "NicClient",
    "Prediction",
    "Profile",
    "Quantity",
    "Queue",
    "Request",
    "Result",
    "Rule",
    "Service",
    "Status",
    "Stream",
    "Trace",
    "hardware_curve",
    "load_profile",
    "predict",
    "profile_names",
    "send",
    "software_curve",
    "topology",
]
