"""Second derivatives agree with closed forms, with differences of the gradient, and with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.expr import topological
from symgraph.structure import flatten

RANDOM = np.random.default_rng(11)
Array = np.ndarray[Any, Any]


def differences(y: Any, x: Any, other: Any, feed: dict[Any, Array], step: float = 1e-5) -> Array:
    """Return the central differences of y's gradient with respect to x, along every element of another node."""
    gradient = sg.gradients(y, [x], unconnected="zero")[0]
    columns = []
    for place in np.ndindex(feed[other].shape):
        ends = []
        for sign in (1, -1):
            moved = feed[other].copy()
            moved[place] += sign * step
            ends.append(np.asarray(sg.evaluate(gradient, {**feed, other: moved})))
        columns.append((ends[0] - ends[1]) / (2 * step))
    return np.stack(columns, -1).reshape((*feed[x].shape, *feed[other].shape))


def check(y: Any, xs: list[Any], feed: dict[Any, Array], tolerance: float = 1e-7) -> None:
    """Compare every block of the Hessian with differences."""
    blocks = sg.evaluate(flatten(sg.hessian(y, xs)), feed)
    expected = [differences(y, x, other, feed) for x in xs for other in xs]
    for block, reference in zip(blocks, expected, strict=True):
        assert block.shape == reference.shape
        np.testing.assert_allclose(block, reference, rtol=tolerance, atol=tolerance * max(1, np.abs(reference).max()))


def logistic() -> tuple[Any, Any, Any, Any]:
    with sg.Graph():
        features, labels = sg.placeholder("X", ("n", "d")), sg.placeholder("y", ("n",))
        w = sg.placeholder("w", ("d",))
    scores = features @ w
    return features, labels, w, sg.mean(sg.softplus(scores) - labels * scores)


def logistic_data(n: int, d: int) -> tuple[Array, Array, Array]:
    return RANDOM.normal(size=(n, d)), (RANDOM.random(n) < 0.5) * 1.0, RANDOM.normal(size=d)


def logistic_hessian(features: Array, w: Array) -> Array:
    chance = 1 / (1 + np.exp(-features @ w))
    result: Array = features.T @ (features * (chance * (1 - chance))[:, None]) / len(features)
    return result


def test_logistic_regression_has_its_closed_form_for_all_sizes_with_one_graph() -> None:
    features, labels, w, loss = logistic()
    hessian = sg.hessian(loss, w)
    assert hessian.shape == (sg.dim("d"), sg.dim("d"))
    for n, d in [(20, 4), (7, 9), (5, 1), (1, 3)]:
        data = logistic_data(n, d)
        value = sg.evaluate(hessian, dict(zip([features, labels, w], data, strict=True)))
        np.testing.assert_allclose(value, logistic_hessian(data[0], data[2]), rtol=1e-12, atol=1e-15)


def test_unit_directions_select_instead_of_being_multiplied() -> None:
    features, _, w, loss = logistic()
    products = [node for node in topological([sg.hessian(loss, w)]) if node.op.name == "matmul"]
    assert len(products) == 2  # the scores, and the weighted features with the features
    assert features in products[1].args


def test_softmax_regression_has_a_block_for_each_pair_of_parameters() -> None:
    with sg.Graph():
        features, labels = sg.placeholder("X", ("n", "d")), sg.placeholder("labels", ("n",), "int64")
        p = {"w": sg.placeholder("w", ("d", "k")), "b": sg.placeholder("b", ("k",))}
    loss = sg.mean(sg.softmax_cross_entropy(features @ p["w"] + p["b"], labels))
    blocks = sg.hessian(loss, p)
    assert {(a, b): blocks[a][b].ndim for a in p for b in p} == {
        ("w", "w"): 4, ("w", "b"): 3, ("b", "w"): 3, ("b", "b"): 2,
    }  # fmt: skip
    n, d, k = 9, 3, 4
    data, w, b = RANDOM.normal(size=(n, d)), RANDOM.normal(size=(d, k)), RANDOM.normal(size=k)
    feed = {features: data, labels: RANDOM.integers(0, k, n), p["w"]: w, p["b"]: b}
    scores = np.exp(data @ w + b)
    chance = scores / scores.sum(1, keepdims=True)
    inner = chance[:, :, None] * np.eye(k) - chance[:, :, None] * chance[:, None, :]
    expected = {
        ("w", "w"): np.einsum("na,nkl,nc->akcl", data, inner, data) / n,
        ("w", "b"): np.einsum("na,nkl->akl", data, inner) / n,
        ("b", "w"): np.einsum("nkl,nc->kcl", inner, data) / n,
        ("b", "b"): inner.mean(0),
    }
    for (a, c), reference in expected.items():
        np.testing.assert_allclose(sg.evaluate(blocks[a][c], feed), reference, rtol=1e-11, atol=1e-14)


def network() -> tuple[Any, Any, list[Any], Any]:
    with sg.Graph():
        x, target = sg.placeholder("x", ("n", 10)), sg.placeholder("target", ("n",))
        sizes = [(10, 20), (20,), (20, 20), (20,), (20, 1), (1,)]
        parameters = [sg.placeholder(f"p{i}", size) for i, size in enumerate(sizes)]
    hidden = x
    for weights, bias in zip(parameters[:4:2], parameters[1:4:2], strict=True):
        hidden = sg.tanh(hidden @ weights + bias)
    output = (hidden @ parameters[4] + parameters[5])[:, 0]
    return x, target, parameters, sg.mean_squared_error(output, target)


def network_values(parameters: list[Any]) -> list[Array]:
    return [RANDOM.normal(size=p.shape) / np.sqrt(p.shape[0]) for p in parameters]


def test_a_network_agrees_with_differences_along_random_directions() -> None:
    x, target, parameters, loss = network()
    values = network_values(parameters)
    feed = dict(zip(parameters, values, strict=True)) | {x: RANDOM.normal(size=(6, 10)), target: RANDOM.normal(size=6)}
    blocks = sg.evaluate(flatten(sg.hessian(loss, parameters)), feed)
    directions = [RANDOM.normal(size=value.shape) for value in values]
    slopes = sg.gradients(loss, parameters)
    step = 1e-5
    ends = [
        sg.evaluate(
            slopes, feed | {p: v + s * step * u for p, v, u in zip(parameters, values, directions, strict=True)}
        )
        for s in (1, -1)
    ]
    for i in range(len(parameters)):
        row = blocks[i * len(parameters) : (i + 1) * len(parameters)]
        along = sum(np.tensordot(block, u, axes=u.ndim) for block, u in zip(row, directions, strict=True))
        np.testing.assert_allclose(along, (ends[0][i] - ends[1][i]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_a_network_agrees_with_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x, target, parameters, loss = network()
    values = network_values(parameters)
    data, wanted = RANDOM.normal(size=(6, 10)), RANDOM.normal(size=6)

    def as_torch(*p: Any) -> Any:
        hidden = torch.tanh(torch.tanh(torch.tensor(data) @ p[0] + p[1]) @ p[2] + p[3])
        return (((hidden @ p[4] + p[5])[:, 0] - torch.tensor(wanted)) ** 2).mean()

    expected = torch.autograd.functional.hessian(as_torch, tuple(torch.tensor(v) for v in values))
    feed = dict(zip(parameters, values, strict=True)) | {x: data, target: wanted}
    for row, reference in zip(sg.hessian(loss, parameters), expected, strict=True):
        for block, other in zip(sg.evaluate(row, feed), reference, strict=True):
            np.testing.assert_allclose(block, other.numpy(), rtol=1e-9, atol=1e-12)


def test_matrix_factorisation() -> None:
    with sg.Graph():
        target = sg.placeholder("T", ("n", "m"))
        left, right = sg.placeholder("U", ("n", "r")), sg.placeholder("V", ("m", "r"))
    loss = sg.sum((target - left @ right.T) ** 2)
    feed = {target: RANDOM.normal(size=(4, 3)), left: RANDOM.normal(size=(4, 2)), right: RANDOM.normal(size=(3, 2))}
    check(loss, [left, right], feed)
    gram = feed[right].T @ feed[right]
    block = sg.evaluate(sg.hessian(loss, left), feed)
    np.testing.assert_allclose(block, 2 * np.einsum("ij,ab->iajb", np.eye(4), gram), rtol=1e-12, atol=1e-14)


def test_rosenbrock_at_its_minimum() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",))
    y = sg.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    hessian = sg.hessian(y, x)
    np.testing.assert_allclose(
        sg.evaluate(hessian, {x: np.ones(3)}), [[802, -400, 0], [-400, 1002, -400], [0, -400, 200]]
    )
    check(y, [x], {x: RANDOM.normal(size=5)})


INDEX = np.array([[0, 2], [2, 3]])

# Each case is a scalar function of a vector of 6 positive numbers.
CASES = {
    "gather": lambda x: sg.sum(sg.exp(x[INDEX]) * x[1]),
    "gather of rows": lambda x: sg.sum(sg.sin(sg.outer(x, x)[INDEX, :2]) ** 2),
    "scatter": lambda x: sg.sum(x.at[INDEX].add(x[:4].reshape((2, 2)) ** 2) ** 3),
    "scatter_set": lambda x: sg.sum(x.at[[1, 1, 4]].set(x[3:] * x[0]) ** 3),
    "computed index": lambda x: sg.sum(sg.take(x, sg.argmax(x) - sg.arange(3)) ** 3),
    "where": lambda x: sg.sum(sg.where(x > 1, x**3, sg.log(x)) * sg.sum(x)),
    "where, other branch not finite": lambda x: sg.sum(sg.where(x > 1, sg.sqrt(x - 1) * x, sg.sqrt(1 - x))),
    "cumulative_sum": lambda x: sg.sum(sg.exp(-sg.cumulative_sum(x)) * x),
    "prod": lambda x: sg.prod(x) + sg.sum(sg.prod(x.reshape((2, 3)) ** 2, 1)),
    "cholesky": lambda x: sg.sum(sg.log(sg.cholesky(sg.outer(x, x) + 2 * sg.eye(6)).sum(1))),
    "solve": lambda x: sg.sum(sg.solve(sg.outer(x, sg.sin(x)) + 2 * sg.eye(6), x) ** 2),
    "solve with a shared matrix": lambda x: sg.sum(sg.exp(sg.solve(sg.constant(np.eye(6) + 0.1), x))),
    "inv, logabsdet, det": lambda x: sum(
        sg.sum(f(sg.outer(x, x) + 2 * sg.eye(6))) for f in (sg.inv, lambda a: sg.slogdet(a)[1], sg.det)
    ),
    "max, min": lambda x: sg.max(x**2) * sg.min(x) * sg.maximum(x[0], x[1] * x[2]),
    "logsumexp, norm": lambda x: sg.logsumexp(x * x) * sg.vector_norm(x),
    "var": lambda x: sg.std(x**2),
    "einsum": lambda x: sg.einsum("ij,jk,ik->", sg.outer(x, x), sg.outer(x, sg.exp(x)), sg.outer(sg.sin(x), x)),
    "einsum of a diagonal": lambda x: sg.sum(sg.einsum("ii,i->i", sg.outer(x, x), x) ** 2),
    "movement": lambda x: sg.sum(sg.flip(sg.roll(x, 2)).reshape((3, 2))[::-1, 1] * sg.pad(x, 1)[2:5] ** 2),
    "concat": lambda x: sg.sum(sg.concat([x, sg.ones(2), x[::2] ** 2]) ** 3),
    "tril": lambda x: sg.sum(sg.tril(sg.outer(x, x)) ** 2),
    "softmax": lambda x: sg.sum(sg.softmax(x.reshape((2, 3))) ** 2),
}


@pytest.mark.parametrize("case", CASES)
def test_hessian_agrees_with_differences(case: str) -> None:
    with sg.Graph():
        x = sg.placeholder("x", (6,))
    check(CASES[case](x), [x], {x: np.array([0.4, 1.3, 0.7, 1.6, 0.9, 1.2])}, 2e-6)


def test_structures_have_rows_outside_and_columns_inside() -> None:
    with sg.Graph():
        a, b, c = sg.placeholder("a"), sg.placeholder("b", (2,)), sg.placeholder("c", (1, 3))
    structure = {"scalar": a, "pair": (b, [c])}
    y = a**2 * sg.sum(b) + sg.sum(b) ** 2 * sg.sum(c**3) + a * sg.sum(c)
    result = sg.hessian(y, structure)
    assert list(result) == ["scalar", "pair"]
    assert isinstance(result["pair"], tuple)
    assert isinstance(result["pair"][1], list)
    assert result["pair"][0]["pair"][1][0].shape == (2, 1, 3)
    assert result["pair"][1][0]["pair"][0].shape == (1, 3, 2)
    assert result["scalar"]["scalar"].shape == ()
    feed = {a: np.array(0.5), b: np.array([1.0, -2.0]), c: np.array([[1.0, 2.0, 3.0]])}
    for x, row in zip((a, b, c), [result["scalar"], result["pair"][0], result["pair"][1][0]], strict=True):
        for other, block in zip((a, b, c), flatten(row), strict=True):
            np.testing.assert_allclose(sg.evaluate(block, feed), differences(y, x, other, feed), rtol=1e-7, atol=1e-7)


def test_a_node_without_influence_gives_zeros() -> None:
    with sg.Graph():
        x, other = sg.placeholder("x", ("n",)), sg.placeholder("other", (2,), "float32")
    blocks = sg.hessian(sg.sum(x**2) + 0, [x, other])
    feed = {x: np.ones(3)}
    assert np.array_equal(sg.evaluate(blocks[0][0], feed), 2 * np.eye(3))
    for block, shape, dtype in [
        (blocks[0][1], (3, 2), "float32"),
        (blocks[1][0], (2, 3), "float64"),
        (blocks[1][1], (2, 2), "float32"),
    ]:
        value = sg.evaluate(block, feed)
        assert value.shape == shape
        assert value.dtype == dtype
        assert not value.any()
    linear = sg.evaluate(sg.hessian(sg.sum(3 * x), x), feed)
    assert np.array_equal(linear, np.zeros((3, 3)))


def test_an_intermediate_node() -> None:
    with sg.Graph():
        x = sg.placeholder("x", (3,))
    inner = sg.exp(x)
    value = np.array([0.1, 0.2, 0.3])
    hessian = sg.evaluate(sg.hessian(sg.sum(inner) * sg.sum(inner**2), inner), {x: value})
    e = np.exp(value)
    np.testing.assert_allclose(hessian, 2 * (e[:, None] + e[None, :]) + 2 * e.sum() * np.eye(3))


def test_single_precision_stays_single() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n",), "float32")
    hessian = sg.hessian(sg.sum(x) ** 3, x)
    assert hessian.dtype == np.float32
    np.testing.assert_allclose(sg.evaluate(hessian, {x: [1.0, 2.0]}), np.full((2, 2), 18.0))


def test_no_elements() -> None:
    with sg.Graph():
        x = sg.placeholder("x", ("n", 2))
    assert sg.evaluate(sg.hessian(sg.sum(x**2), x), {x: np.zeros((0, 2))}).shape == (0, 2, 0, 2)


def test_third_and_fourth_derivatives() -> None:
    with sg.Graph():
        x, w = sg.placeholder("x", ("n",)), sg.placeholder("w", ("n",))
    y = sg.sum(sg.sin(x)) * sg.sum(w * x**2)
    hessian = sg.hessian(y, x)
    third = sg.grad(sg.sum(hessian), x)
    feed = {x: np.array([0.3, 0.5, 1.1]), w: np.array([1.0, -2.0, 0.5])}
    step = 1e-5
    moved = [
        [np.sum(sg.evaluate(hessian, {**feed, x: feed[x] + sign * step * unit})) for unit in np.eye(3)]
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(sg.evaluate(third, feed), (np.array(moved[0]) - moved[1]) / (2 * step), rtol=1e-7)
    check(sg.sum(hessian**2), [x], feed)
    check(sg.sum(hessian[0] * w), [x, w], feed)


def test_a_users_own_derivative_is_differentiated_as_it_stands() -> None:
    """The gradient of such an operation need not be that of a function; each block is the derivative of a gradient."""
    odd = sg.custom_op("odd", lambda x, y: x * y, vjp=lambda g, out, x, y: [g * x * y**2, g * x])
    with sg.Graph():
        x, y = sg.placeholder("x", (2,)), sg.placeholder("y", (2,))
    feed = {x: np.array([1.0, 2.0]), y: np.array([3.0, 4.0])}
    blocks = sg.hessian(sg.sum(odd(x, y)), [x, y])
    expected = [np.diag([9.0, 16.0]), np.diag([6.0, 16.0]), np.eye(2), np.zeros((2, 2))]
    np.testing.assert_allclose(sg.evaluate(flatten(blocks), feed), expected)


def test_custom_operations_of_every_kind() -> None:
    cube = sg.custom_op("cube", lambda x: x**3, elementwise=True, derivative=[lambda g, out, x: 3 * g * x * x])
    opaque = sg.custom_op("opaque_sine", np.sin, opaque=True, vjp=lambda g, out, x: [g * sg.cos(x)])
    twice = sg.custom_op("twice", lambda x: 2 * x, vjp=lambda g, out, x: [twice(g)])
    scale = sg.custom_op(
        "scale", lambda x: x * sg.sum(x), vjp=lambda g, out, x: [twice(g * sg.sum(x) + sg.sum(x * g)) / 2]
    )
    with sg.Graph():
        x = sg.placeholder("x", (3,))
    feed = {x: np.array([0.3, 0.5, 1.1])}
    for operation in (cube, opaque, scale):
        check(sg.sum(operation(x)) * x[0], [x], feed)


def test_an_opaque_derivative_cannot_be_batched_and_says_so() -> None:
    halved = sg.custom_op("halved", lambda g: g / 2, opaque=True, vjp=lambda g, out, x: [halved(g)])
    odd = sg.custom_op("odd", lambda x: x**2, vjp=lambda g, out, x: [halved(g * 4 * x)])
    with sg.Graph():
        x = sg.placeholder("x", (3,))
    with pytest.raises(sg.DifferentiationError, match="halved cannot be batched: it is opaque"):
        sg.hessian(sg.sum(odd(x)), x)


def test_bad_requests_are_refused() -> None:
    with sg.Graph():
        x, k = sg.placeholder("x", ("n",)), sg.placeholder("k", ("n",), "int64")
    with pytest.raises(sg.DifferentiationError, match=r"a scalar is expected, got .*float64\[n\].*\n.*test_hessian.py"):
        sg.hessian(x * 2, x)
    with pytest.raises(sg.DifferentiationError, match="integers and booleans are constants"):
        sg.hessian(sg.sum(x), k)
    with pytest.raises(sg.DifferentiationError, match="integers and booleans are constants"):
        sg.hessian(sg.sum(k), x)
    with pytest.raises(sg.DifferentiationError, match="not a node"):
        sg.hessian(3.0, x)
    with pytest.raises(sg.DifferentiationError, match="not a node"):
        sg.hessian(sg.sum(x), [x, None])


def test_the_size_of_the_graph_does_not_depend_on_the_sizes_of_arrays() -> None:
    def count(n: int) -> int:
        with sg.Graph():
            x = sg.placeholder("x", (n,))
        return len(topological([sg.hessian(sg.logsumexp(x) ** 2, x)]))

    assert count(300) == count(30) < 60


def test_compiled_as_interpreted() -> None:
    features, labels, w, loss = logistic()
    with features.graph:
        u, v = sg.placeholder("u", (3, 2)), sg.placeholder("v", (4, 2))
    factors = sg.sum((1 - sg.tanh(u @ v.T)) ** 2) + sg.sum(u[INDEX[0]] ** 3) + sg.prod(u[0]) * sg.logsumexp(v)
    outputs = [sg.hessian(loss, w), sg.hessian(factors, {"u": u, "v": v})]
    inputs = [features, labels, w, u, v]
    data = [*logistic_data(12, 5), RANDOM.normal(size=(3, 2)), RANDOM.normal(size=(4, 2))]
    compiled = sg.function(inputs, outputs)(*data)
    interpreted = sg.function(inputs, outputs, backend="numpy")(*data)
    np.testing.assert_allclose(compiled[0], logistic_hessian(data[0], data[2]), rtol=1e-12, atol=1e-15)
    for one, other in zip(flatten(compiled), flatten(interpreted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_blocks_of_nodes_computed_from_each_other_are_nested_gradients():
    s = sg.placeholder("s")
    h = sg.exp(s)
    y = sg.sin(h)
    blocks = sg.hessian(y, [h, s])
    by_h, by_s = sg.gradients(y, [h, s])
    for row, slope in zip(blocks, [by_h, by_s], strict=True):
        nested = sg.gradients(slope, [h, s], unconnected="zero")
        np.testing.assert_allclose(sg.evaluate(list(row), {s: 0.3}), sg.evaluate(nested, {s: 0.3}))
    assert abs(float(sg.evaluate(blocks[1][0], {s: 0.3})) - float(sg.evaluate(blocks[0][1], {s: 0.3}))) > 0.1
