"""A batched graph gives, for each member of the batch, what the graph gives for it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.derive.batch import batch
from symgraph.expr import Expr, topological
from symgraph.ops.linalg import cholesky_pullback
from symgraph.ops.reductions import exclusive_prod
from symgraph.ops.scatter import gather, scatter_add, scatter_set

SIZE = 3
RANDOM = np.random.default_rng(5)
Array = np.ndarray[Any, Any]


def check(function: Callable[..., Any], values: Sequence[Any], flags: Sequence[bool], size: Any = SIZE) -> Expr:
    """Compare a batched function with a loop over the batch; a value that is batched has the batch axis first."""
    arrays = [np.asarray(value) for value in values]
    with sg.Graph():
        single = [
            sg.placeholder(f"x{i}", array.shape[int(flag) :], str(array.dtype))
            for i, (array, flag) in enumerate(zip(arrays, flags, strict=True))
        ]
        many = {
            node: sg.placeholder(f"many{i}", (size, *node.shape), str(node.dtype))
            for i, (node, flag) in enumerate(zip(single, flags, strict=True))
            if flag
        }
    output = function(*single)
    (batched,) = batch([output], many, sg.dim(size))
    assert batched.shape == (sg.dim(size), *output.shape)
    assert batched.dtype == output.dtype
    feed = {many.get(node, node): array for node, array in zip(single, arrays, strict=True)}
    expected = [
        sg.evaluate(
            output,
            {node: array[i] if flag else array for node, array, flag in zip(single, arrays, flags, strict=True)},
        )
        for i in range(SIZE)
    ]
    np.testing.assert_allclose(sg.evaluate(batched, feed), np.stack(expected), rtol=1e-12, atol=1e-12)
    return batched


def draw(*shape: int) -> Array:
    return RANDOM.uniform(0.2, 1.8, shape)


def indices(high: int, *shape: int) -> Array:
    return RANDOM.integers(0, high, shape)


def pairs(first: tuple[int, ...], second: tuple[int, ...], flags: tuple[bool, bool]) -> list[Array]:
    """Return two operands of these shapes, with the batch axis in front where they are batched."""
    return [draw(*((SIZE,) if flag else ()), *shape) for shape, flag in zip((first, second), flags, strict=True)]


BOTH = pytest.mark.parametrize("flags", [(True, False), (False, True), (True, True)], ids=["first", "second", "both"])


@BOTH
@pytest.mark.parametrize("shapes", [((4,), (4,)), ((2, 4), (4,)), ((4,), (2, 4)), ((), (2, 4)), ((2, 1), (4,))])
def test_elementwise_operands_line_up_from_the_last_axis(shapes: Any, flags: Any) -> None:
    check(lambda x, y: sg.sin(x) / y - x, pairs(*shapes, flags), flags)


def test_elementwise_operands_of_lower_rank_than_the_batch_axis_alone_would_allow() -> None:
    check(sg.where, [draw(SIZE) > 1, draw(3), draw(SIZE, 2, 1)], [True, False, True])
    check(lambda x: x.astype("float32") + 1, [draw(SIZE, 2)], [True])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: sg.sum(x, 1),
        lambda x: sg.mean(x, keepdims=True),
        lambda x: sg.prod(x, (0, 2)),
        lambda x: sg.max(x, -1),
        lambda x: sg.any(x > 1, 0),
        lambda x: sg.argmax(x, 1),
        lambda x: sg.argmin(x, keepdims=True),
        lambda x: sg.logsumexp(x, (1, 2)),
        sg.vector_norm,
        lambda x: sg.cumulative_sum(x, 1),
        lambda x: exclusive_prod(x, 2),
    ],
)
def test_reductions_and_scans_leave_the_batch_axis_alone(function: Any) -> None:
    check(function, [draw(SIZE, 2, 3, 4)], [True])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: sg.reshape(x, (6, 4)),
        lambda x: sg.reshape(x, (-1,)),
        lambda x: sg.permute_dims(x, (2, 0, 1)),
        lambda x: sg.expand_dims(x, (0, 2)),
        lambda x: sg.squeeze(sg.sum(x, 1, True), 1),
        lambda x: sg.broadcast_to(x, (5, 2, 3, 4)),
        lambda x: sg.broadcast_to(sg.sum(x, (0, 1)), (2, 3, 4)),
        lambda x: x[1, ::-1, 1:3],
        lambda x: x[..., None, 2],
        lambda x: sg.pad(x, 1),
        lambda x: sg.grad(sg.sum(x[:, ::2] ** 3), x),
        lambda x: sg.concat([x, sg.ones((2, 1, 4)), 2 * x], 1),
        lambda x: sg.roll(x, 1, 2),
        sg.tril,
    ],
)
def test_movement_leaves_the_batch_axis_alone(function: Any) -> None:
    check(function, [draw(SIZE, 2, 3, 4)], [True])


@BOTH
@pytest.mark.parametrize(
    "shapes",
    [
        ((4,), (4,)),
        ((2, 4), (4,)),
        ((4,), (4, 5)),
        ((2, 4), (4, 5)),
        ((6, 2, 4), (4,)),
        ((4,), (6, 4, 5)),
        ((6, 2, 4), (4, 5)),
        ((2, 4), (6, 4, 5)),
        ((6, 2, 4), (6, 4, 5)),
        ((7, 1, 2, 4), (6, 4, 5)),
    ],
)
def test_products_of_matrices_and_vectors(shapes: Any, flags: Any) -> None:
    check(sg.matmul, pairs(*shapes, flags), flags)


@pytest.mark.parametrize(
    ("shapes", "flags"),
    [
        (((2, 4), (4, 5)), (True, False)),
        (((2, 4), (4, 5)), (False, True)),
        (((6, 2, 4), (4, 5)), (True, False)),
        (((2, 4), (6, 4, 5)), (False, True)),
        (((2, 4), (4,)), (False, True)),
        (((4,), (4, 5)), (True, False)),
    ],
)
def test_a_product_with_a_shared_matrix_is_one_product_of_two_matrices(shapes: Any, flags: Any) -> None:
    batched = check(sg.matmul, pairs(*shapes, flags), flags)
    (product,) = [node for node in topological([batched]) if node.op.name == "matmul"]
    assert [arg.ndim for arg in product.args] == [2, 2]


@BOTH
def test_einsum(flags: Any) -> None:
    check(lambda x, y: sg.einsum("zij,kj->izk", x, y), pairs((2, 3, 4), (5, 4), flags), flags)
    check(lambda x, y: sg.einsum("ii,j->ij", x, y), pairs((3, 3), (4,), flags), flags)


def test_einsum_without_a_spare_letter_is_refused() -> None:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    with sg.Graph():
        x = sg.placeholder("x", (1,) * 26)
        many = sg.placeholder("many", (2,) + (1,) * 26)
    product = sg.einsum(f"{letters[:26]},{letters[26:]}->", x, x)
    with pytest.raises(sg.DifferentiationError, match="no letter for the batch"):
        batch([product], {x: many}, 2)


@pytest.mark.parametrize("flags", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2)])
def test_gather(axes: Any, flags: Any) -> None:
    x = draw(*((SIZE,) if flags[0] else ()), 4, 5, 4)
    index = indices(4, *((SIZE,) if flags[1] else ()), 2, 3)
    check(lambda x, i: gather(x, [i] * len(axes), axes), [x, index], flags)
    if len(axes) == 2:
        check(lambda x, i: gather(x, [i, sg.constant(np.ones((2, 3), int))], axes), [x, index], flags)


@pytest.mark.parametrize("scatter", [scatter_add, scatter_set])
@pytest.mark.parametrize("axes", [(1,), (0, 2)])
@pytest.mark.parametrize(
    "flags", [(True, False, False), (False, True, False), (True, True, False), (False, False, True), (True, True, True)]
)
def test_scatter_with_repeated_indices(scatter: Any, axes: Any, flags: Any) -> None:
    rest = (4, 4) if len(axes) == 1 else (5,)
    shapes = [(4, 5, 4), (2, 6, *rest), (2, 6)]
    first, updates = (draw(*((SIZE,) if f else ()), *s) for f, s in zip(flags[:2], shapes[:2], strict=True))
    index = indices(3, *((SIZE,) if flags[2] else ()), *shapes[2])
    check(lambda x, u, i: scatter(x, u, [i] * len(axes), axes), [first, updates, index], flags)


def matrices(*shape: int) -> Array:
    return draw(*shape) + 5 * np.eye(shape[-1])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: sg.cholesky(x @ sg.matrix_transpose(x)),
        sg.inv,
        sg.det,
        lambda x: sg.slogdet(x)[0],
        lambda x: sg.slogdet(x)[1],
    ],
)
@pytest.mark.parametrize("head", [(), (2,)])
def test_linear_algebra_of_one_matrix(function: Any, head: Any) -> None:
    check(function, [matrices(SIZE, *head, 4, 4)], [True])


@BOTH
@pytest.mark.parametrize("right", [(4,), (4, 2), (6, 4, 2)])
def test_systems_of_equations(right: Any, flags: Any) -> None:
    head = right[:-2]
    left = matrices(*((SIZE,) if flags[0] else ()), *head, 4, 4)
    values = [left, draw(*((SIZE,) if flags[1] else ()), *right)]
    check(sg.solve, values, flags)
    for lower, transposed in [(True, False), (False, False), (True, True)]:
        check(lambda a, b, how=(lower, transposed): sg.solve_triangular(a, b, *how), values, flags)


@BOTH
@pytest.mark.parametrize("head", [(), (2,)])
def test_the_pullback_of_a_factor(head: Any, flags: Any) -> None:
    left, right = (matrices(*((SIZE,) if f else ()), *head, 4, 4) for f in flags)
    check(cholesky_pullback, [np.tril(left), right], flags)


def test_one_shared_matrix_is_factorised_once() -> None:
    batched = check(sg.solve, [matrices(4, 4), draw(SIZE, 4)], [False, True])
    (solve,) = [node for node in topological([batched]) if node.op.name == "solve"]
    assert [arg.ndim for arg in solve.args] == [2, 2]


def test_custom_operations() -> None:
    cube = sg.custom_op("cube", lambda x: x**3, elementwise=True, derivative=[lambda g, out, x: 3 * g * x * x])
    scaled = sg.custom_op("scaled", lambda x, y: x * sg.sum(cube(y)), vjp=lambda g, out, x, y: [g, None])
    check(cube, [draw(SIZE, 2)], [True])
    check(lambda x, y: scaled(2 * x, y), [draw(SIZE, 2), draw(4)], [True, False])
    check(lambda x, y: scaled(x, y) + scaled(y, x), [draw(2), draw(SIZE, 2)], [False, True])


def test_an_opaque_operation_is_refused() -> None:
    opaque = sg.custom_op("opaque", np.sort, opaque=True)
    with sg.Graph():
        x, many = sg.placeholder("x", (2,)), sg.placeholder("many", (3, 2))
    with pytest.raises(sg.DifferentiationError, match=r"opaque cannot be batched: .*\n  declared at .*test_batch.py"):
        batch([opaque(x)], {x: many}, 3)


@pytest.mark.parametrize("size", ["b", "2*b+1"])
def test_the_size_of_the_batch_may_be_symbolic(size: str) -> None:
    check(lambda x, w: sg.logsumexp(sg.tanh(w @ x[1:]) * x[0]), [draw(SIZE, 5), draw(3, 4)], [True, False], size)
    check(lambda a, b: sg.solve(a, b)[0], [matrices(4, 4), draw(SIZE, 4, 2)], [False, True], size)
    check(lambda x, i: gather(x, [i], (0,)), [draw(SIZE, 5), indices(5, SIZE, 2)], [True, True], size)


def test_what_does_not_depend_on_the_batch_is_shared_and_outputs_are_repeated() -> None:
    with sg.Graph():
        x, w, many = sg.placeholder("x", (2,)), sg.placeholder("w", (2,)), sg.placeholder("many", ("b", 2))
    apart = sg.exp(w)
    product, alone = batch([x * apart, apart], {x: many}, sg.dim("b"))
    assert apart in product.args
    assert alone.op.name == "broadcast_to"
    assert alone.args == (apart,)
    assert alone.shape == (sg.dim("b"), 2)


def test_an_intermediate_node_can_be_batched() -> None:
    with sg.Graph():
        x, many = sg.placeholder("x", (2,)), sg.placeholder("many", (3, 2))
    inner = sg.exp(x)
    (batched,) = batch([sg.sum(inner * x)], {inner: many}, 3)
    values = draw(3, 2)
    np.testing.assert_allclose(sg.evaluate(batched, {x: [1.0, 2.0], many: values}), values @ [1.0, 2.0])


def test_values_of_another_type_are_refused() -> None:
    with sg.Graph():
        x, many = sg.placeholder("x", (2,)), sg.placeholder("many", (3, 2), "float32")
    with pytest.raises(sg.ShapeError, match=r"float64\[3,2\], got float32\[3,2\]"):
        batch([sg.sum(x)], {x: many}, 3)


def test_a_long_chain_is_batched_without_recursion_and_in_linear_size() -> None:
    with sg.Graph():
        x, many = sg.placeholder("x"), sg.placeholder("many", (2,))
    y = x
    for _ in range(20_000):
        y = sg.sin(y)
    (batched,) = batch([y], {x: many}, 2)
    assert len(topological([batched])) == 20_001


def test_a_batch_can_be_batched_and_differentiated() -> None:
    with sg.Graph():
        x, y = sg.placeholder("x", (2,)), sg.placeholder("y", (2,))
        xs, ys = sg.placeholder("xs", (3, 2)), sg.placeholder("ys", (4, 2))
    (rows,) = batch([sg.sum(sg.sin(x * y))], {x: xs}, 3)
    (table,) = batch([rows], {y: ys}, 4)
    left, right = draw(3, 2), draw(4, 2)
    products = left[None] * right[:, None]
    feed = {xs: left, ys: right}
    np.testing.assert_allclose(sg.evaluate(table, feed), np.sin(products).sum(-1))
    np.testing.assert_allclose(sg.evaluate(sg.grad(table, xs), feed), (np.cos(products) * right[:, None]).sum(0))
