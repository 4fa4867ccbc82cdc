"""Layers one after the other, each with the shape that those before it leave."""

from __future__ import annotations

import math

from accel.workload import Layer


class Stack:
    """Builds a list of layers while it keeps the shape of the running tensor."""

    def __init__(self, size: int, channels: int = 3) -> None:
        self.size = size
        self.channels = channels
        self.layers: list[Layer] = []

    def conv(
        self,
        oc: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        *,
        valid: bool = False,
        groups: int = 1,
        ic: int | None = None,
        keep: bool = False,
    ) -> Stack:
        """Append a convolution; with `keep` the running tensor stays what it was (a branch)."""
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        ic = self.channels if ic is None else ic
        out = (self.size - max(kh, kw)) // stride + 1 if valid else math.ceil(self.size / stride)
        weights = kh * kw * (ic // groups) * oc
        name = f"conv{len(self.layers)}"
        macs, in_bytes, out_bytes = out * out * weights, self.size**2 * ic, out * out * oc
        self.layers.append(
            Layer(name, "Conv", 1, out, out, oc, ic, kh, kw, groups, macs, weights, in_bytes,
                  out_bytes)
        )  # fmt: skip
        if not keep:
            self.size, self.channels = out, oc
        return self

    def depthwise(self, kernel: int = 3, stride: int = 1) -> Stack:
        """Append a depthwise convolution."""
        return self.conv(self.channels, kernel, stride, groups=self.channels)

    def pool(self, stride: int = 2, *, valid_kernel: int | None = None) -> Stack:
        """Shrink the running tensor."""
        if valid_kernel is None:
            self.size = math.ceil(self.size / stride)
        else:
            self.size = (self.size - valid_kernel) // stride + 1
        return self

    def branch(self, *convs: tuple[int, int | tuple[int, int]], stride: int = 1) -> int:
        """Append a chain of (channels, kernel) beside the trunk; return its channels.

        The stride belongs to the last convolution of the chain, which then has no padding.
        """
        ic, size = self.channels, self.size
        for index, (oc, kernel) in enumerate(convs):
            last = stride > 1 and index == len(convs) - 1
            self.conv(oc, kernel, stride if last else 1, valid=last, ic=ic, keep=True)
            ic = oc
        self.size = size
        return ic

    def join(self, channels: int, stride: int = 1) -> Stack:
        """Continue with the concatenation of branches."""
        if stride > 1:
            self.size = (self.size - 3) // stride + 1
        self.channels = channels
        return self

    def dense(self, oc: int) -> Stack:
        """Append a fully connected layer over the whole running tensor."""
        ic = self.channels * self.size**2
        name = f"dense{len(self.layers)}"
        self.layers.append(Layer(name, "Gemm", 1, 1, 1, oc, ic, 1, 1, 1, ic * oc, ic * oc, ic, oc))
        self.size, self.channels = 1, oc
        return self

    def mean(self) -> Stack:
        """Average over all positions."""
        self.size = 1
        return self
