"""Kernels of the elementary functions and of activations built from them, for floating-point numbers.

Each function computes one element with NumPy, and its decorator says what Numba emits for the same call; or it is
written with other kernels, and the same text serves both. Errors are at most 2 ulp, of silu 2.1; benchmarks/kernels.py
prints those measured.
"""

# ruff: noqa: D103  (each kernel is documented as the operation of its name)
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.compile.kernels import vector, vector_composed, vector_special, vector_trigonometric
from symgraph.compile.kernels.arithmetic import abs, isnan, maximum
from symgraph.compile.kernels.lanes import vectorises
from symgraph.compile.kernels.lowering import calls, in_double, kernel, unchanged

_LN2 = math.log(2)


# Roots
@kernel(calls(math.sqrt))
def sqrt(x: Any) -> Any:
    return np.sqrt(x)


@kernel(vectorises(vector_special.cbrt, explicit=vector_special.cbrt_by_case))
def cbrt(x: Any) -> Any:
    return np.cbrt(x)


@kernel(vectorises(vector_special.hypot))
def hypot(x: Any, y: Any) -> Any:
    return np.hypot(x, y)


# Exponentials and logarithms
@kernel(vectorises(vector.exp))
def exp(x: Any) -> Any:
    return np.exp(x)


@kernel(vectorises(vector.exp2))
def exp2(x: Any) -> Any:
    return np.exp2(x)


@kernel(vectorises(vector.expm1))
def expm1(x: Any) -> Any:
    return np.expm1(x)


@kernel(vectorises(vector.log, explicit=vector.log_by_case))
def log(x: Any) -> Any:
    return np.log(x)


@kernel(vectorises(vector.log2, explicit=vector.log2_by_case))
def log2(x: Any) -> Any:
    return np.log2(x)


@kernel(vectorises(vector.log10, explicit=vector.log10_by_case))
def log10(x: Any) -> Any:
    return np.log10(x)


@kernel(vectorises(vector.log1p, explicit=vector.log1p_by_case))
def log1p(x: Any) -> Any:
    return np.log1p(x)


@in_double(emitter=vectorises(vector_composed.logaddexp))
def logaddexp(x: Any, y: Any) -> Any:
    if x == y:
        return x + _LN2  # also where both are the same infinity, whose difference is NaN
    return maximum(x, y) + log1p(exp(-abs(x - y)))


@in_double(emitter=vectorises(vector_composed.xlogy))
def xlogy(x: Any, y: Any) -> Any:
    return 0.0 if x == 0 and not isnan(y) else x * log(y)


# Trigonometry
@kernel(vectorises(vector_trigonometric.sin, explicit=vector_trigonometric.sin_by_size))
def sin(x: Any) -> Any:
    return np.sin(x)


@kernel(vectorises(vector_trigonometric.cos, explicit=vector_trigonometric.cos_by_size))
def cos(x: Any) -> Any:
    return np.cos(x)


@kernel(vectorises(vector_trigonometric.tan, explicit=vector_trigonometric.tan_by_size))
def tan(x: Any) -> Any:
    return np.tan(x)


@kernel(vectorises(vector_trigonometric.asin))
def asin(x: Any) -> Any:
    return np.arcsin(x)


@kernel(vectorises(vector_trigonometric.acos))
def acos(x: Any) -> Any:
    return np.arccos(x)


@kernel(vectorises(vector_trigonometric.atan))
def atan(x: Any) -> Any:
    return np.arctan(x)


@kernel(vectorises(vector_trigonometric.atan2))
def atan2(y: Any, x: Any) -> Any:
    return np.arctan2(y, x)


@kernel(vectorises(vector.sinh))
def sinh(x: Any) -> Any:
    return np.sinh(x)


@kernel(vectorises(vector.cosh))
def cosh(x: Any) -> Any:
    return np.cosh(x)


@kernel(vectorises(vector.tanh))
def tanh(x: Any) -> Any:
    return np.tanh(x)


@kernel(vectorises(vector_composed.asinh, explicit=vector_composed.asinh_by_size))
def asinh(x: Any) -> Any:
    return np.arcsinh(x)


@kernel(vectorises(vector_composed.acosh, explicit=vector_composed.acosh_by_size))
def acosh(x: Any) -> Any:
    return np.arccosh(x)


@kernel(vectorises(vector_composed.atanh, registers=2))
def atanh(x: Any) -> Any:
    return np.arctanh(x)


# Activations
@in_double(emitter=vectorises(vector_composed.sigmoid))
def sigmoid(x: Any) -> Any:
    small = exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1.0 + small)


@in_double(emitter=vectorises(vector_composed.softplus))
def softplus(x: Any) -> Any:
    return maximum(x, 0.0) + log1p(exp(-abs(x)))


def _emit_relu(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    zero = context.get_constant(sig.return_type, 0)
    return calls(maximum)(context, builder, sig.return_type(*sig.args * 2), [values[0], zero])


@kernel(_emit_relu, booleans=unchanged)
def relu(x: Any) -> Any:
    return np.maximum(x, np.asarray(x).dtype.type(0))


def _emit_leaky_relu(context: Any, builder: Any, sig: Any, values: Sequence[Any]) -> Any:
    x, slope = values
    positive = builder.fcmp_ordered(">", x, context.get_constant(sig.return_type, 0))
    return builder.select(positive, x, builder.fmul(x, slope))


@kernel(_emit_leaky_relu)
def leaky_relu(x: Any, slope: Any) -> Any:
    return x if x > 0 else x * slope


@in_double(emitter=vectorises(vector_composed.elu))
def elu(x: Any, alpha: Any) -> Any:
    return x if x > 0 else alpha * expm1(x)


@in_double(emitter=vectorises(vector_composed.silu))
def silu(x: Any) -> Any:
    return x * sigmoid(x)
