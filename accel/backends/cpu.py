"""The `cpu` device: our own int8 kernels, ONNX Runtime for operators outside them.

A program from a file needs no graph: what lowers one is imported where it is first compiled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accel import kernels
from accel.detection.description import to_json
from accel.device import Device
from accel.errors import ModelError, UnsupportedError
from accel.explain import Explanation, Row
from accel.order import Order
from accel.packed import PackedFor, shared_weights
from accel.peak import dot_peak
from accel.plan import Plan
from accel.program import Arrays, Program
from accel.program_file import SavedProgram, write_program
from accel.readers import Readers
from accel.saved import SavedModel
from accel.schedule import (
    Call,
    HostGroup,
    MatMulCall,
    NearestCall,
    PoolCall,
    ProductCall,
    Schedule,
)
from accel.stage import Life

if TYPE_CHECKING:
    from accel.model import Model


def availability() -> tuple[bool, str]:
    """Always there; says which instruction set was chosen."""
    return True, f"own int8 kernels, {kernels.isa()}"


def open_device(index: int) -> Device:
    """Open the device."""
    return Device("cpu", PlanProgram)


class PlanProgram(Program):
    """A plan of kernel calls and ONNX Runtime subgraphs; `mkl` runs the same plan.

    Parameters
    ----------
    gemm : address of MKL's ``cblas_gemm_s8u8s32``, None for our own dot kernels.

    Attributes
    ----------
    schedule : what it runs.
    """

    def __init__(self, order: Order, gemm: int | None = None) -> None:
        from accel.lower import lower

        super().__init__(order)
        device, model = order.device, order.model
        if not model.is_quantized:
            raise ModelError(
                f"device {device.name!r} runs quantized models, and {model.name!r} is float32; "
                "call model.quantize() first"
            )
        schedule = lower(model.with_shapes(self.batch_size, self.shapes), order.winograd)
        if order.strict:
            _refuse_foreign(model, schedule)
        self._bind(schedule, shared_weights(model.digest), gemm)

    @classmethod
    def restore(
        cls, device: Device, saved: SavedProgram, packed: PackedFor, threads: int
    ) -> PlanProgram:
        """The program that a file holds."""
        program = cls.__new__(cls)
        program._describe(device, SavedModel(saved), saved.batch_size, threads, None)
        program._bind(saved.schedule, packed)
        return program

    def _bind(self, schedule: Schedule, packed: PackedFor, gemm: int | None = None) -> None:
        self.schedule, self._packed, self._gemm = schedule, packed, gemm
        self._kernel = f"{'MKL gemm_s8u8s32' if gemm else 'dot'} {kernels.isa()}"
        self._plan = Plan(schedule, packed, self.model.name, self.threads, gemm)

    def save(self, path: str | Path) -> Path:
        if self._gemm is not None:
            return super().save(path)
        spec = self.model.detector_spec
        saved = SavedProgram(
            name=self.model.name,
            isa=kernels.isa(),
            batch_size=self.batch_size,
            inputs=self.inputs,
            outputs=self.model.outputs,
            detector=None if spec is None else to_json(spec),
            schedule=self.schedule,
            weights=(),
        )
        return write_program(path, saved, self._packed)

    def lives(self) -> tuple[Life, ...]:
        """The memory plan."""
        return self._plan.lives()

    def _execute(self, inputs: Arrays) -> Arrays:
        return self._plan.run(inputs)

    def explain(self) -> Explanation:
        """Every node with the engine that runs it."""
        where, moved = self.device.name, self._plan.moved()
        rows: list[Row] = []
        readers = Readers(self.schedule)
        pairs = self._plan.pairs
        partners = {a.name: b.name for a, b in pairs} | {b.name: a.name for a, b in pairs}
        for call in self.schedule.calls:
            first, *others = _rows(call, where, self._kernel, readers)
            if call.name in partners:
                step = f"one step with {partners[call.name]!r}"
                first = replace(first, note=f"{step}, {first.note}" if first.note else step)
            rows += [replace(first, bytes=moved.get(call.name, 0)), *others]
        notes = [f"{self._plan.nbytes / 1e6:.2f} MB hold all values of a run"]
        if self._plan.by_image:
            last = self.schedule.calls[self._plan.by_image - 1].name
            notes.append(f"up to {last!r} every thread takes one image at a time")
        return Explanation(
            self.model.name, where, self.batch_size, self.threads, tuple(rows), tuple(notes)
        )

    def _profile(self, inputs: Arrays, repeats: int) -> Explanation:
        seconds = self._plan.seconds(inputs, repeats)
        found = self.explain()
        rows = tuple(replace(row, seconds=seconds.pop(row.node, None)) for row in found.rows)
        inputs_us = sum(seconds.values()) * 1e6  # what is left: steps of no node
        total_ms = sum(row.seconds or 0.0 for row in rows) * 1e3 + inputs_us / 1e3
        note = (
            f"one batch: {total_ms:.3f} ms, sum of the medians of {repeats} runs, of which "
            f"{inputs_us:.1f} us to take the inputs"
        )
        peak = dot_peak(kernels.isa()) * self.threads
        return replace(found, rows=rows, notes=(note, *found.notes), peak=peak)


def _rows(call: Call, where: str, kernel: str, readers: Readers) -> list[Row]:
    if isinstance(call, HostGroup):
        return [
            Row(name, op, "onnxruntime", "float32", macs=macs, note="outside our kernels")
            for name, op, macs in call.nodes
        ]
    if isinstance(call, ProductCall):
        return [_product_row(call, where, kernel)]
    if isinstance(call, MatMulCall):
        note = "two activations, both quantized here"
        return [
            Row(
                call.name, call.op, where, f"{kernel}, AW", call.window, call.macs, own=True,
                note=note,
            )
        ]  # fmt: skip
    if isinstance(call, PoolCall) and (reader := readers.pool(call.x)) is not None:
        return [Row(call.name, call.op, where, "windows", reader.window)]
    if isinstance(call, NearestCall) and (reader := readers.copied(call.y)) is not None:
        return [Row(call.name, call.op, where, "windows", reader.window)]
    return [Row(call.name, call.op, where, "float32")]


def _product_row(call: ProductCall, where: str, kernel: str) -> Row:
    mode = "C" if call.window is None else "AW" if call.weight_window else "A"
    note = f"weight window {call.weight_window}" if call.weight_window else ""
    if call.fine:
        note = "fine weights"
    if call.winograd:
        note = "Winograd F(2, 3), two thirds of the products"
    if call.rests:
        note = "reads rests" + (f", {note}" if note else "")
    if call.window is None:
        note = "one scale per image" if call.border is None else "reads raw pixels"
    return Row(
        call.name, call.op, where, f"{kernel}, {mode}", call.window, call.macs, own=True, note=note
    )


def _refuse_foreign(model: Model, schedule: Schedule) -> None:
    foreign = [f"{op} {name!r}" for call in schedule.calls if isinstance(call, HostGroup)
               for name, op, _ in call.nodes]  # fmt: skip
    if foreign:
        shown = ", ".join(foreign[:8]) + (f" and {len(foreign) - 8} more" if foreign[8:] else "")
        raise UnsupportedError(
            f"model {model.name!r}: strict=True refuses operators outside our kernels: {shown}; "
            "compile with strict=False to run them in ONNX Runtime"
        )
