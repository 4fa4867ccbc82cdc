"""`accel inspect`: what a model takes, gives and computes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.markup import escape

import accel
from accel.cli.options import Json, Model
from accel.cli.output import human_bytes, human_count, out, print_json, table
from accel.cli.prepare import for_device
from accel.tensor_spec import TensorSpec
from accel.workload import Layer

On = Annotated[
    str | None, typer.Option("--backend", "-b", help="Show which kernel of this device runs what.")
]


def inspect(path: Model, backend: On = None, as_json: Json = False) -> None:
    """Show a model's inputs, outputs and layers."""
    model = accel.load(path)
    program = None
    if backend is not None:
        program = accel.device(backend).compile(for_device(model, backend), batch_size=1)
    layers = model.workload()
    if as_json:
        print_json(_as_dict(model, layers, program))
        return
    console = out()
    kind = "int8, quantized" if model.is_quantized else "fp32"
    size = human_bytes(len(model.to_bytes()))
    console.print(f"[bold]{escape(model.name)}[/]: {kind}, {size} as ONNX")
    for word, specs in (("input ", model.inputs), ("output", model.outputs)):
        for spec in specs:
            console.print(f"{word} {spec.name} {_shape(spec)} {spec.dtype}", markup=False)
    if program is None:
        console.print(_layer_table(layers))
    else:
        console.print(str(program.explain()), markup=False, soft_wrap=True)
    total = human_count(sum(layer.macs for layer in layers))
    weights = human_bytes(sum(layer.weight_bytes for layer in layers))
    console.print(f"{len(layers)} layers, {total}MAC an image, {weights} of int8 weights")


def _layer_table(layers: list[Layer]) -> Any:
    columns = ["layer", "op", "output", "channels", "kernel", "groups", "MAC"]
    rows = table(columns, right=columns[2:])
    for layer in layers:
        rows.add_row(
            escape(layer.name),
            layer.op,
            f"{layer.oh}x{layer.ow}",
            f"{layer.ic} > {layer.oc}",
            f"{layer.kh}x{layer.kw}",
            str(layer.groups),
            human_count(layer.macs),
        )
    return rows


def _shape(spec: TensorSpec) -> str:
    return "(" + ", ".join("N" if d is None else str(d) for d in spec.shape) + ")"


def _as_dict(
    model: accel.Model, layers: list[Layer], program: accel.Program | None
) -> dict[str, Any]:
    return {
        "name": model.name,
        "quantized": model.is_quantized,
        "bytes": len(model.to_bytes()),
        "inputs": [_spec_dict(spec) for spec in model.inputs],
        "outputs": [_spec_dict(spec) for spec in model.outputs],
        "layers": [asdict(layer) for layer in layers],
        "explain": None if program is None else program.explain().to_dict(),
    }


def _spec_dict(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": list(spec.shape), "dtype": str(spec.dtype)}
