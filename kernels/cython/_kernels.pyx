# cython: language_level=3, embedsignature=True
"""The binding of the C kernels: checks every argument once, releases the GIL, computes nothing."""

from __future__ import annotations

import contextlib
import math
import operator
import os

import numpy as np

from accel.errors import KernelError

cimport numpy as cnp
from libc.string cimport memcpy, memset
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uintptr_t

from lw cimport *

cnp.import_array()

include "checks.pxi"
include "isa.pxi"
include "pool.pxi"
include "operator.pxi"
include "tensor.pxi"
include "weights.pxi"
include "max_pool.pxi"
include "conv.pxi"
include "matmul.pxi"
include "pooling.pxi"
include "nearest.pxi"
include "linear.pxi"
include "columns.pxi"
include "operators.pxi"
include "lanes.pxi"
