"""Linear algebra on the last two axes; the axes before them are a batch.

Every derivative is written with operations of this file and products, so it has derivatives of any order.
The formulas are those of M. Giles, "An extended collection of matrix derivative results for forward and
reverse mode algorithmic differentiation" (2008), and for the Cholesky factor of I. Murray,
"Differentiation of the Cholesky decomposition" (2016), arXiv:1602.07527.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from symgraph.arraytype import ArrayType, format_shape
from symgraph.errors import ShapeError, at_user_line
from symgraph.op import Kind, Op, public, register
from symgraph.ops import reference
from symgraph.ops.construct import apply, broadcast_shapes, promote
from symgraph.ops.contraction import matmul
from symgraph.ops.creation import eye
from symgraph.ops.elementwise import where
from symgraph.ops.movement import broadcast_to, expand_dims, matrix_transpose, squeeze
from symgraph.ops.triangles import tril, triu


def _check_square(name: str, x: ArrayType) -> None:
    if x.rank < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(
            at_user_line(
                f"{name}: square matrices on the last two axes are expected, got shape {format_shape(x.shape)}"
            )
        )


def _matrix_type(name: str) -> Callable[..., ArrayType]:
    def type_rule(x: ArrayType) -> ArrayType:
        _check_square(name, x)
        return x

    return type_rule


def _number_type(name: str) -> Callable[..., ArrayType]:
    def type_rule(x: ArrayType) -> ArrayType:
        _check_square(name, x)
        return ArrayType(x.dtype, x.shape[:-2])

    return type_rule


def _solve_type(name: str) -> Callable[..., ArrayType]:
    def type_rule(a: ArrayType, b: ArrayType, *_: bool) -> ArrayType:
        _check_square(name, a)
        rows = b.shape[:1] if b.rank == 1 else b.shape[-2:-1]
        if rows != a.shape[-1:] or a.shape[:-2] != b.shape[:-2]:
            raise _unequal(name, a, b)
        return b

    return type_rule


def _pullback_type(factor: ArrayType, cotangent: ArrayType) -> ArrayType:
    _check_square("cholesky_pullback", factor)
    if factor.shape != cotangent.shape:
        raise _unequal("cholesky_pullback", factor, cotangent)
    return factor


def _unequal(name: str, a: Any, b: Any) -> ShapeError:
    shown = f"{format_shape(a.shape)} and {format_shape(b.shape)}"
    return ShapeError(at_user_line(f"{name}: a matrix and right-hand sides of shapes {shown} do not fit"))


def _product(x: Any, y: Any) -> Any:
    """Return ``x yᵀ``, for right-hand sides that are matrices or vectors."""
    if x.ndim == 1:
        return expand_dims(x, 1) * expand_dims(y, 0)
    return matmul(x, matrix_transpose(y))


def _over_last_axes(g: Any) -> Any:
    return expand_dims(g, (-2, -1))


def _cholesky_vjp(g: Any, out: Any, x: Any) -> list[Any]:
    return [cholesky_pullback(out, g)]


def _cholesky_pullback_vjp(g: Any, out: Any, factor: Any, cotangent: Any) -> list[Any]:
    """With out = L⁻ᵀ sym(Φ(LᵀG)) L⁻¹ and M = L⁻¹ sym(g) L⁻ᵀ: G Φ(M)ᵀ - 2 out L M for L, and L Φ(M) for G."""
    half = matrix_transpose(solve_triangular(factor, 0.5 * (g + matrix_transpose(g))))
    lower = tril(solve_triangular(factor, half))
    middle = where(eye(factor.shape[-1], dtype="bool"), lower * 0.5, lower)
    by_factor = matmul(tril(cotangent), matrix_transpose(middle)) - 2.0 * matmul(out, half)
    return [tril(by_factor), tril(matmul(factor, middle))]


def _solve_vjp(g: Any, out: Any, a: Any, b: Any) -> list[Any]:
    right = solve(matrix_transpose(a), g)
    return [-_product(right, out), right]


def _solve_triangular_vjp(g: Any, out: Any, a: Any, b: Any, lower: bool, transposed: bool) -> list[Any]:
    right = solve_triangular(a, g, lower, not transposed)
    full = -_product(out, right) if transposed else -_product(right, out)
    return [tril(full) if lower else triu(full), right]


def _inv_vjp(g: Any, out: Any, x: Any) -> list[Any]:
    turned = matrix_transpose(out)
    return [-matmul(matmul(turned, g), turned)]


def _linalg(
    name: str, arity: int, type_rule: Any, numpy: Any, vjp: Any, torch: str, *facts: str, **others: Any
) -> Op:  # fmt: skip
    return register(
        Op(
            name, Kind.LINALG, arity, type_rule, numpy, vjp=vjp, facts=frozenset({"smooth", *facts}),
            torch_name=torch, **others,
        )
    )  # fmt: skip


_CHOLESKY = _linalg(
    "cholesky", 1, _matrix_type("cholesky"), "numpy.linalg:cholesky", _cholesky_vjp, "LinalgCholeskyEx",
    latex=r"\operatorname{{chol}}\left({0}\right)",
)  # fmt: skip
_CHOLESKY_PULLBACK = _linalg(
    "cholesky_pullback", 2, _pullback_type, reference.cholesky_pullback, _cholesky_pullback_vjp,
    "CholeskyPullback",
)  # fmt: skip
_SOLVE = _linalg(
    "solve", 2, _solve_type("solve"), "numpy.linalg:solve", _solve_vjp, "LinalgSolveEx", "columnwise",
    latex="{{{0}}}^{{-1}} {1}", precedence=13,
)  # fmt: skip
_SOLVE_TRIANGULAR = _linalg(
    "solve_triangular", 2, _solve_type("solve_triangular"), reference.solve_triangular, _solve_triangular_vjp,
    "LinalgSolveTriangular", "columnwise", attributes=("lower", "transposed"),
)  # fmt: skip
_INV = _linalg(
    "inv", 1, _matrix_type("inv"), "numpy.linalg:inv", _inv_vjp, "LinalgInvEx", latex="{{{0}}}^{{-1}}", precedence=15,
)  # fmt: skip
_DET = _linalg(
    "det", 1, _number_type("det"), "numpy.linalg:det",
    lambda g, out, x: [_over_last_axes(g * out) * matrix_transpose(inv(x))],
    "LinalgDet", latex=r"\det\left({0}\right)",
)  # fmt: skip
_DET_SIGN = _linalg(
    "det_sign", 1, _number_type("det_sign"), reference.det_sign, lambda g, out, x: [None], "LinalgSlogdet",
    latex=r"\operatorname{{sgn}} \det\left({0}\right)",
)  # fmt: skip
_LOGABSDET = _linalg(
    "logabsdet", 1, _number_type("logabsdet"), reference.logabsdet,
    lambda g, out, x: [_over_last_axes(g) * matrix_transpose(inv(x))],
    "LinalgSlogdet", latex=r"\log \left| \det\left({0}\right) \right|",
)  # fmt: skip


def _of_one_matrix(op: Op, x: Any) -> Any:
    return apply(op, *promote(op.name, x, floating=True))


@public
def cholesky(x: Any) -> Any:
    """Return the lower triangular L with positive diagonal and ``L @ L.T == x``.

    Only the lower triangle of x is read; the derivative is that for a symmetric x, and is symmetric.

    Args:
        x: Symmetric positive definite matrices, shape (..., n, n); integers become floating-point numbers.

    Raises:
        ShapeError: the matrices are not square.
        numpy.linalg.LinAlgError: at the call, a matrix is not positive definite.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.cholesky(sg.constant([[4.0, 2.0], [2.0, 2.0]])))
        array([[2., 0.],
               [1., 1.]])
    """
    return _of_one_matrix(_CHOLESKY, x)


def cholesky_pullback(factor: Any, cotangent: Any) -> Any:
    """Return the cotangent of symmetric matrices, from that of their Cholesky factors, which it is linear in.

    It is ½ L⁻ᵀ (P + Pᵀ) L⁻¹ with P the lower triangle of LᵀG, its diagonal halved (Murray, eq. 10). An operation of
    its own can go through the factor backwards, block by block, with the work of an inverse from the factor, whatever
    the cotangent is; the formula's product and systems take six times as much.

    Args:
        factor: Lower triangular matrices L, shape (..., n, n).
        cotangent: G, of the same shape; only the lower triangle is read.
    """
    return apply(_CHOLESKY_PULLBACK, factor, cotangent)


@public
def solve(a: Any, b: Any) -> Any:
    """Return the solution x of ``a @ x == b``.

    Args:
        a: Invertible matrices, shape (..., n, n).
        b: A vector of n numbers when it has one axis, else matrices (..., n, k), as in NumPy 2. Batches broadcast.

    Raises:
        ShapeError: the matrices are not square, or b does not fit.
        numpy.linalg.LinAlgError: at the call, a matrix is singular.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.solve(sg.constant([[2.0, 0.0], [0.0, 4.0]]), sg.constant([2.0, 8.0])))
        array([1., 2.])
    """
    return _solve_with(_SOLVE, a, b, ())


@public
def solve_triangular(a: Any, b: Any, lower: bool = True, transposed: bool = False) -> Any:
    """Return the solution x of ``t @ x == b``, or of ``t.T @ x == b``, where t is one triangle of a.

    Only that triangle of a is read, and only it has a derivative.

    Args:
        a: Matrices with non-zero diagonals, shape (..., n, n).
        b: A vector when it has one axis, else matrices (..., n, k). Batches broadcast.
        lower: Whether t is the lower triangle, or the upper one.
        transposed: Whether t is transposed.

    Raises:
        ShapeError: the matrices are not square, or b does not fit.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.solve_triangular(sg.constant([[2.0, 9.0], [2.0, 4.0]]), sg.constant([2.0, 6.0])))
        array([1., 1.])
    """
    return _solve_with(_SOLVE_TRIANGULAR, a, b, (bool(lower), bool(transposed)))


def _solve_with(op: Op, a: Any, b: Any, attrs: Sequence[bool]) -> Any:
    a, b = promote(op.name, a, b, floating=True)
    _check_square(op.name, a.type)
    if b.ndim == 0 or (b.shape[0] if b.ndim == 1 else b.shape[-2]) != a.shape[-1]:
        raise _unequal(op.name, a, b)
    if b.ndim == 1:
        if a.ndim == 2:
            return apply(op, a, b, attrs=tuple(attrs))
        return squeeze(_solve_with(op, a, expand_dims(b, 1), attrs), -1)
    batch = broadcast_shapes(op.name, a.shape[:-2], b.shape[:-2])
    matrices = broadcast_to(a, (*batch, *a.shape[-2:]))
    return apply(op, matrices, broadcast_to(b, (*batch, *b.shape[-2:])), attrs=tuple(attrs))


@public
def inv(x: Any) -> Any:
    """Return the inverse of matrices.

    Args:
        x: Invertible matrices, shape (..., n, n); integers become floating-point numbers.

    Raises:
        ShapeError: the matrices are not square.
        numpy.linalg.LinAlgError: at the call, a matrix is singular.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.inv(sg.constant([[2.0, 0.0], [0.0, 4.0]])))
        array([[0.5 , 0.  ],
               [0.  , 0.25]])
    """
    return _of_one_matrix(_INV, x)


@public
def det(x: Any) -> Any:
    """Return the determinants of matrices; the derivative exists where a matrix is invertible, and raises elsewhere.

    Args:
        x: Matrices, shape (..., n, n); integers become floating-point numbers.

    Raises:
        ShapeError: the matrices are not square.

    Example:
        >>> import symgraph as sg
        >>> sg.evaluate(sg.det(sg.constant([[2.0, 0.0], [0.0, 4.0]]))).round(6)
        np.float64(8.0)
    """
    return _of_one_matrix(_DET, x)


@public
def slogdet(x: Any) -> tuple[Any, Any]:
    """Return the sign of the determinants, and the logarithms of their absolute values.

    Args:
        x: Matrices, shape (..., n, n); integers become floating-point numbers.

    Returns:
        ``(sign, logabsdet)``; the sign has a zero derivative.

    Raises:
        ShapeError: the matrices are not square.

    Example:
        >>> import symgraph as sg
        >>> sign, logarithm = sg.slogdet(sg.constant([[-1.0, 0.0], [0.0, 1.0]]))
        >>> sg.evaluate([sign, logarithm])
        [np.float64(-1.0), np.float64(0.0)]
    """
    return _of_one_matrix(_DET_SIGN, x), _of_one_matrix(_LOGABSDET, x)
