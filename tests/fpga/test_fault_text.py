"""Faults as text, and rules that strike at a time."""

from __future__ import annotations

import pytest

from accel.errors import InputError
from accel.fpga import Card, Fault, Rule
from accel.fpga.fault_text import rules_of
from accel.fpga.faults import DELAYS, Faults


def test_text_gives_the_rules_it_says() -> None:
    assert rules_of("completion_lost:0.01,hang@5ms") == [
        Rule(Fault.COMPLETION_LOST, rate=0.01),
        Rule(Fault.HANG, after=(5e-3,)),
    ]
    assert rules_of(" REMOVAL@3+20us , link_fatal,") == [
        Rule(Fault.REMOVAL, at=(3,), delay=20 * 1e-6),
        Rule(Fault.LINK_FATAL, at=(0,)),
    ]
    assert rules_of("hang@1,hang@7,hang:0.5") == [Rule(Fault.HANG, at=(1, 7), rate=0.5)]
    assert rules_of("") == []


@pytest.mark.parametrize("number", range(1, 19))
def test_every_number_names_its_faults(number: int) -> None:
    rules = rules_of(f"f{number}:0.5")
    assert [rule.kind for rule in rules] == [
        kind for kind in Fault if kind.value.startswith(f"F{number} ")
    ]
    assert rules
    assert {rule.rate for rule in rules} == {0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hnag", "fault 'hnag' is not known; did you mean hang"),
        ("F19", "fault 'F19' is not known; known: descriptor_error"),
        ("hang:often", "'often' is no rate"),
        ("hang:1.5", "rate is 1.5; expected 0 to 1"),
        ("hang:nan", "rate is nan"),
        ("hang@5", None),
        ("hang@5parsec", "'5parsec' is no time; give ns, us, ms or s"),
        ("hang@-1ms", "no time"),
        ("hang@1.2.3ms", "is no rate"),
        ("hang+", "'' is no time"),
        ("hang 0.5", "cannot be read; expected for example"),
    ],
)
def test_text_that_says_nothing_is_refused(text: str, message: str | None) -> None:
    if message is None:
        assert rules_of(text) == [Rule(Fault.HANG, at=(5,))]
        return
    with pytest.raises(InputError, match=message):
        rules_of(text)


def test_rule_strikes_once_after_each_of_its_times() -> None:
    now = [0.0]
    faults = Faults([Rule(Fault.HANG, after=(2e-3, 1e-3))], clock=lambda: now[0])
    struck = []
    for step in range(6):
        now[0] = step * 0.7e-3
        struck.append(faults.fires(Fault.HANG))
    assert struck == [False, False, True, True, False, False]
    with pytest.raises(InputError, match="after is -1"):
        Rule(Fault.HANG, after=(-1.0,))


def test_a_delay_not_given_is_that_of_the_fault() -> None:
    assert Rule(Fault.REMOVAL).seconds == DELAYS[Fault.REMOVAL] > 0
    assert Rule(Fault.REMOVAL, delay=0.0).seconds == 0


def test_card_takes_text_counts_strikes_and_shows_them() -> None:
    card = Card("alveo-u200", faults="descriptor_error@1")
    queue = card.queue()
    a, b = card.host.allocate(8), card.memory.allocate(8)
    for _ in range(3):
        queue.post("h2c", a.address, b.address, 8)
    queue.doorbell()
    card.run()
    assert {c.cid: c.ok for c in queue.completions()} == {0: True, 1: False, 2: True}
    assert card.stats()["faults"] == {"descriptor_error": 1}
    assert [m.name for m in card.trace.marks if m.track == "faults"] == ["descriptor_error"]
