"""Linear algebra agrees with NumPy, its derivatives with PyTorch and with differences, to second order."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg
from symgraph.ops.linalg import cholesky_pullback

RANDOM = np.random.default_rng(7)
GENERAL = RANDOM.normal(size=(2, 3, 3)) + 2 * np.eye(3)
SYMMETRIC = GENERAL @ np.swapaxes(GENERAL, -1, -2)
RIGHT = RANDOM.normal(size=(2, 3, 2))


def declare(*shapes, dtype="float64"):
    with sg.Graph():
        return [sg.placeholder(f"x{i}", shape, dtype) for i, shape in enumerate(shapes)]


def shapes_of(arrays, symbolic):
    names = {3: "n", 2: "k"}
    if not symbolic:
        return [a.shape for a in arrays]
    return [tuple("b" if i == 0 and a.ndim == 3 else names[s] for i, s in enumerate(a.shape)) for a in arrays]


def triangle(a, lower, transposed):
    t = np.tril(a) if lower else np.triu(a)
    return np.swapaxes(t, -1, -2) if transposed else t


def as_symmetric(x):
    return 0.5 * (x + sg.matrix_transpose(x))


def pullback_by_inverses(factor, cotangent):
    product = np.tril(np.swapaxes(factor, -1, -2) @ np.tril(cotangent))
    product *= 1 - 0.5 * np.eye(factor.shape[-1])
    inverse = np.linalg.inv(np.tril(factor))
    return 0.5 * np.swapaxes(inverse, -1, -2) @ (product + np.swapaxes(product, -1, -2)) @ inverse


def torch_pullback(torch, factor, cotangent):
    x = torch.tril(factor) @ torch.tril(factor).mT
    return torch.autograd.grad(torch.linalg.cholesky(x), x, cotangent, create_graph=True)[0]


# Each case: the function on nodes, the NumPy reference, the same in PyTorch, the arguments.
CASES = {
    "cholesky": (
        lambda x: sg.cholesky(as_symmetric(x)),
        np.linalg.cholesky,
        lambda torch, x: torch.linalg.cholesky(0.5 * (x + x.mT)),
        [SYMMETRIC],
    ),
    "cholesky_pullback": (
        lambda factor, g: cholesky_pullback(sg.tril(factor), g),
        pullback_by_inverses, torch_pullback, [np.linalg.cholesky(SYMMETRIC), GENERAL],
    ),
    "inv": (sg.inv, np.linalg.inv, lambda torch, x: torch.linalg.inv(x), [GENERAL]),
    "det": (sg.det, np.linalg.det, lambda torch, x: torch.linalg.det(x), [GENERAL]),
    "logabsdet": (
        lambda x: sg.slogdet(x)[1],
        lambda x: np.linalg.slogdet(x)[1],
        lambda torch, x: torch.linalg.slogdet(x)[1],
        [GENERAL],
    ),
    "solve": (sg.solve, np.linalg.solve, lambda torch, a, b: torch.linalg.solve(a, b), [GENERAL, RIGHT]),
    "solve one matrix": (
        sg.solve, np.linalg.solve, lambda torch, a, b: torch.linalg.solve(a, b), [GENERAL[0], RIGHT[0]],
    ),
    "solve a vector": (
        sg.solve, np.linalg.solve, lambda torch, a, b: torch.linalg.solve(a, b), [GENERAL[0], RIGHT[0, :, 0]],
    ),
    "solve a vector with each matrix": (
        sg.solve, np.linalg.solve,
        lambda torch, a, b: torch.linalg.solve(a, b.expand(2, 3)), [GENERAL, RIGHT[0, :, 0]],
    ),
    "solve with one matrix for each": (
        sg.solve, np.linalg.solve, lambda torch, a, b: torch.linalg.solve(a.expand(2, 3, 3), b), [GENERAL[0], RIGHT],
    ),
}  # fmt: skip
for _lower in (True, False):
    for _transposed in (True, False):
        for _b in (RIGHT, RIGHT[0, :, 0]):
            _key = (_lower, _transposed)
            CASES[f"solve_triangular {'lower' if _lower else 'upper'} {_transposed} {_b.ndim}"] = (
                lambda a, b, key=_key: sg.solve_triangular(a, b, *key),
                lambda a, b, key=_key: np.linalg.solve(triangle(a, *key), b),
                lambda torch, a, b, key=_key: torch.linalg.solve(
                    (torch.tril(a) if key[0] else torch.triu(a)).mT if key[1]
                    else torch.tril(a) if key[0] else torch.triu(a),
                    b,
                ),
                [GENERAL if _b.ndim > 1 else GENERAL[0], _b],
            )  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True], ids=["known", "symbolic"])
@pytest.mark.parametrize("name", CASES)
def test_values_are_numpys(name, symbolic):
    build, reference, _, arrays = CASES[name]
    nodes = declare(*shapes_of(arrays, symbolic))
    expected = reference(*arrays)
    got = sg.evaluate(build(*nodes), dict(zip(nodes, arrays, strict=True)))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    assert symbolic or build(*nodes).shape == np.shape(expected)


def differences(nodes, arrays, outputs):
    """Yield for each argument the central differences of a scalar output, element by element."""
    step = 1e-5
    for node, array in zip(nodes, arrays, strict=True):
        found = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            value = []
            for sign in (step, -step):
                moved = array.copy()
                moved[place] += sign
                value.append(sg.evaluate(outputs, {**dict(zip(nodes, arrays, strict=True)), node: moved}))
            found[place] = (value[0] - value[1]) / (2 * step)
        yield found


@pytest.mark.parametrize("symbolic", [False, True], ids=["known", "symbolic"])
@pytest.mark.parametrize("name", CASES)
def test_first_and_second_derivatives_are_those_of_differences(name, symbolic):
    build, _, _, arrays = CASES[name]
    nodes = declare(*shapes_of(arrays, symbolic))
    feed = dict(zip(nodes, arrays, strict=True))
    y = sg.sum(sg.sin(build(*nodes)))
    first = sg.gradients(y, nodes)
    for gradient, expected in zip(first, differences(nodes, arrays, y), strict=True):
        np.testing.assert_allclose(sg.evaluate(gradient, feed), expected, rtol=1e-5, atol=1e-7)
    z = sum(sg.sum(sg.cos(gradient)) for gradient in first)
    for gradient, expected in zip(sg.gradients(z, nodes), differences(nodes, arrays, z), strict=True):
        np.testing.assert_allclose(sg.evaluate(gradient, feed), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    build, _, peer, arrays = CASES[name]
    nodes = declare(*shapes_of(arrays, False))
    gradients = sg.gradients(sg.sum(sg.sin(build(*nodes))), nodes)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    torch.sin(peer(torch, *tensors)).sum().backward()
    for gradient, tensor in zip(gradients, tensors, strict=True):
        got = sg.evaluate(gradient, dict(zip(nodes, arrays, strict=True)))
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_cholesky_has_pytorchs_symmetric_derivative():
    torch = pytest.importorskip("torch")
    (x,) = declare((2, 3, 3))
    (gradient,) = sg.gradients(sg.sum(sg.exp(sg.cholesky(x))), [x])
    got = sg.evaluate(gradient, {x: SYMMETRIC})
    np.testing.assert_allclose(got, np.swapaxes(got, -1, -2), rtol=1e-12)
    tensor = torch.tensor(SYMMETRIC, requires_grad=True)
    torch.exp(torch.linalg.cholesky(tensor)).sum().backward()
    np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-10)


@pytest.mark.parametrize("lower", [True, False])
def test_solve_triangular_reads_one_triangle_and_gives_only_it_a_derivative(lower):
    a, b = declare((3, 3), (3,))
    half = np.tril if lower else np.triu
    other = np.where(half(np.ones((3, 3))) > 0, GENERAL[0], np.nan)
    out = sg.solve_triangular(a, b, lower)
    feed = {a: other, b: RIGHT[0, :, 0]}
    np.testing.assert_allclose(sg.evaluate(out, feed), np.linalg.solve(half(GENERAL[0]), RIGHT[0, :, 0]), rtol=1e-12)
    gradient = sg.evaluate(sg.grad(sg.sum(out), a), feed)
    np.testing.assert_array_equal(gradient, half(gradient))
    assert np.isfinite(gradient).all()


def test_slogdet_has_sign_and_logarithm():
    (x,) = declare((2, 3, 3))
    values = GENERAL.copy()
    values[0, 0] *= -1
    sign, logarithm = sg.evaluate(list(sg.slogdet(x)), {x: values})
    np.testing.assert_array_equal(sign, np.linalg.slogdet(values)[0])
    np.testing.assert_allclose(sign * np.exp(logarithm), np.linalg.det(values), rtol=1e-12)
    gradient = sg.grad(sg.sum(sg.slogdet(x)[1]) + sg.sum(sg.slogdet(x)[0]), x)
    np.testing.assert_allclose(sg.evaluate(gradient, {x: values}), np.swapaxes(np.linalg.inv(values), -1, -2))


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_integers_become_floats_and_float32_stays(dtype):
    (x,) = declare((2, 2), dtype=dtype)
    expected = "float64" if dtype == "int64" else "float32"
    values = np.array([[2, 1], [1, 2]], dtype)
    for out in (sg.inv(x), sg.det(x), sg.cholesky(x), *sg.slogdet(x), sg.solve(x, x)):
        assert out.dtype == expected
        assert sg.evaluate(out, {x: values}).dtype == expected


def test_numpys_functions_take_nodes():
    (x,) = declare((3, 3))
    for name in ("inv", "det", "cholesky", "solve"):
        function, args = getattr(np.linalg, name), [SYMMETRIC[0]] * (2 if name == "solve" else 1)
        np.testing.assert_allclose(sg.evaluate(function(*[x for _ in args]), {x: args[0]}), function(*args), atol=1e-13)


@pytest.mark.parametrize(
    "function",
    [
        np.linalg.trace,
        lambda x: np.linalg.trace(x, offset=1),
        np.linalg.diagonal,
        np.trace,
        np.diagonal,
        np.linalg.norm,
        lambda x: np.linalg.norm(x, axis=(0, 2)),
        lambda x: np.linalg.norm(x, 1, 2),
        lambda x: np.linalg.norm(x, np.inf, -1, True),
    ],
)
def test_numpys_linalg_has_its_own_axes(function):
    (x,) = declare((2, 3, 3))
    np.testing.assert_allclose(sg.evaluate(function(x), {x: GENERAL}), function(GENERAL), rtol=1e-13)


@pytest.mark.parametrize("order", [1, 2, "fro", np.inf])
def test_norms_of_matrices_are_refused(order):
    (x,) = declare((3, 3))
    with pytest.raises(sg.DeclarationError, match="no counterpart"):
        np.linalg.norm(x, order)


@pytest.mark.parametrize("function", [sg.inv, sg.det, sg.cholesky, sg.slogdet, lambda x: sg.solve(x, np.ones(2))])
@pytest.mark.parametrize("shape", [(2, 3), (3,), (), ("n", "m")])
def test_matrices_that_are_not_square_are_refused(function, shape):
    (x,) = declare(shape)
    with pytest.raises(sg.ShapeError, match="square"):
        function(x)


@pytest.mark.parametrize("shape", [(4,), (), (4, 3), (5, 3, 1)])
def test_right_hand_sides_that_do_not_fit_are_refused(shape):
    a, b = declare((2, 3, 3), shape)
    for function in (sg.solve, sg.solve_triangular):
        with pytest.raises(sg.ShapeError):
            function(a, b)


def test_a_singular_matrix_raises_at_the_call():
    (x,) = declare((2, 2))
    with pytest.raises(np.linalg.LinAlgError):
        sg.evaluate(sg.inv(x), {x: np.zeros((2, 2))})
    with pytest.raises(np.linalg.LinAlgError):
        sg.evaluate(sg.cholesky(x), {x: -np.eye(2)})


def half_square(x):
    return 0.5 * sg.sum(x**2)


def log_pivots(x):
    return sg.sum(sg.log(sg.diagonal(sg.cholesky(x))))


# The negative logarithm of a normal density, without its constant.
LIKELIHOODS = {
    "by one triangle": lambda k, y: half_square(sg.solve_triangular(sg.cholesky(k), y)) + log_pivots(k),
    "by both triangles": lambda k, y: (
        0.5 * sg.sum(y * sg.solve_triangular(sg.cholesky(k), sg.solve_triangular(sg.cholesky(k), y), transposed=True))
        + log_pivots(k)
    ),
    "by a system": lambda k, y: 0.5 * sg.sum(y * sg.solve(k, y)) + 0.5 * sg.slogdet(k)[1],
}


@pytest.mark.parametrize("side", [("n",), ("n", "m")], ids=["vector", "matrix"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_normal_density_has_the_derivatives_of_the_closed_form(name, side):
    k, v, y = declare(("n", "n"), ("n", "n"), side)
    value = LIKELIHOODS[name](k, y)
    (first,) = sg.gradients(value, [k])
    (second,) = sg.gradients(sg.sum(v * first), [k])
    f = sg.function([k, v, y], [value, first, second], options=sg.Options(cache=False))
    for n in (0, 1, 2, 63, 64, 65, 130):
        x, direction = RANDOM.normal(size=(2, n, n))
        matrix = x @ x.T / max(n, 1) + np.eye(n)
        direction = direction + direction.T
        right = RANDOM.normal(size=(n, 3)[: len(side)])
        inverse = np.linalg.inv(matrix)
        sides = right.reshape((n, 1)) if len(side) == 1 else right
        weights = inverse @ sides
        fit = weights @ weights.T
        turned = inverse @ direction
        expected = [
            0.5 * np.sum(sides * weights) + 0.5 * np.linalg.slogdet(matrix)[1],
            0.5 * (inverse - fit),
            0.5 * (turned @ fit + fit @ turned.T - turned @ inverse),
        ]
        for got, want in zip(f(matrix, direction, right), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)
