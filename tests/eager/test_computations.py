"""What the tutorials compute, in our own words: each computation in the dynamic engine, and declared as a graph.

Both give the same numbers, which are worked out by hand beside each test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import eager
from symgraph.eager import Tensor


def gradients_of(compute: Callable[..., Any], values: Mapping[str, Any], weights: Any = None) -> dict[str, Any]:
    """Return the gradients that the dynamic engine finds; the result is weighted, summed, when it is not a scalar."""
    leaves = {name: eager.tensor(value, dtype="float64", requires_grad=True) for name, value in values.items()}
    result = compute(**leaves)
    result.backward(None if weights is None else eager.tensor(weights, dtype="float64"))
    return {name: None if leaf.grad is None else leaf.grad.numpy() for name, leaf in leaves.items()}


def declared_gradients_of(
    compute: Callable[..., Any], values: Mapping[str, Any], weights: Any = None
) -> dict[str, Any]:
    """Return the gradients of the same computation on placeholders, through a compiled-function object."""
    with sg.Graph():
        nodes = {name: sg.placeholder(name, np.shape(value)) for name, value in values.items()}
    result = compute(**nodes)
    found = sg.gradients(result, list(nodes.values()), None if weights is None else np.asarray(weights))
    function = sg.function(list(nodes.values()), found, backend="numpy")
    return dict(zip(values, function(*[np.asarray(v, float) for v in values.values()]), strict=True))


def check(
    compute: Callable[..., Any], values: Mapping[str, Any], expected: Mapping[str, Any], weights: Any = None
) -> None:
    dynamic = gradients_of(compute, values, weights)
    static = declared_gradients_of(compute, values, weights)
    for name, gradient in expected.items():
        np.testing.assert_allclose(dynamic[name], gradient, rtol=1e-12)
        np.testing.assert_allclose(static[name], gradient, rtol=1e-12)


def test_power_of_one_element() -> None:
    check(lambda x: x**2, {"x": [2.0]}, {"x": [4.0]}, weights=[1.0])


def test_sum_of_shifted_squares() -> None:
    """d/dx sum (x+2)^2 = 2(x+2)."""
    check(lambda x: ((x + 2) ** 2).sum(), {"x": [3.0, 4.0]}, {"x": [10.0, 12.0]})


def test_weights_for_a_vector() -> None:
    check(lambda x: x * 2, {"x": [3.0, 4.0]}, {"x": [2.0, 0.2]}, weights=[1.0, 0.1])


def test_weights_for_a_reshaped_vector() -> None:
    weights = [[1.0, 0.1], [0.01, 0.001]]
    check(lambda x: (2 * x).reshape(2, 2), {"x": [1.0, 2.0, 3.0, 4.0]}, {"x": [2.0, 0.2, 0.02, 0.002]}, weights)


def test_mean_of_scaled_squares() -> None:
    """d/dx mean 3(x+2)^2 over four elements = 6(x+2)/4."""
    check(lambda x: ((x + 2) * (x + 2) * 3).mean(), {"x": np.ones((2, 2))}, {"x": np.full((2, 2), 4.5)})


def test_linear_form_of_numbers() -> None:
    check(lambda x, w, b: w * x + b, {"x": 1.0, "w": 3.0, "b": 2.0}, {"x": 3.0, "w": 1.0, "b": 1.0})


def test_product_of_vectors_plus_a_number() -> None:
    features = np.array([1.5, 2.5, 3.5])
    compute = lambda w, b: (w * features).sum() + b  # noqa: E731
    check(compute, {"w": [0.2, 0.4, 0.6], "b": 0.1}, {"w": features, "b": 1.0})


def test_polynomial_of_a_vector() -> None:
    check(lambda x: x**2 + 2 * x + 1, {"x": [2.0, 3.0]}, {"x": [6.0, 8.0]}, weights=[1.0, 1.0])


def test_difference_with_a_seed_of_three() -> None:
    check(lambda x, y: 2 * x - y, {"x": 1.0, "y": 2.0}, {"x": 6.0, "y": -3.0}, weights=3.0)


def test_gradient_of_a_constant_part_is_cut() -> None:
    """x**3 is computed without recording, so that d/dx (x**2 + x**3) at 1 is 2, not 5."""
    x = eager.tensor(1.0, requires_grad=True)
    with eager.no_grad():
        cube = x**3
    total = x**2 + cube
    total.backward()
    with sg.Graph():
        node = sg.placeholder("x")
    (declared,) = sg.gradients(node**2 + sg.stop_gradient(node**3), [node])
    assert (cube.requires_grad, total.requires_grad) == (False, True)
    assert x.grad.item() == sg.evaluate(declared, {node: 1.0}) == 2.0


def test_detached_part_is_a_constant() -> None:
    x = eager.tensor(3.0, requires_grad=True)
    (x.detach() * x).backward()
    with sg.Graph():
        node = sg.placeholder("x")
    (declared,) = sg.gradients(sg.stop_gradient(node) * node, [node])
    assert x.grad.item() == sg.evaluate(declared, {node: 3.0}) == 3.0


def test_second_derivative() -> None:
    """d/dx x²y = 2xy = 12, d²/dx² = 2y = 6, d/dy d/dx = 2x = 4."""
    x, y = (eager.tensor(value, requires_grad=True) for value in (2.0, 3.0))
    (first,) = eager.autograd.grad(x * x * y, x, create_graph=True)
    second = eager.autograd.grad(first, [x, y])
    with sg.Graph():
        a, b = sg.placeholder("x"), sg.placeholder("y")
    (declared,) = sg.gradients(a * a * b, [a])
    values = sg.evaluate([declared, *sg.gradients(declared, [a, b])], {a: 2.0, b: 3.0})
    assert [first.item(), *[g.item() for g in second]] == values == [12.0, 6.0, 4.0]


def test_second_pass_after_the_gradient_was_cleared_through_data() -> None:
    x, y = (eager.tensor(value, requires_grad=True) for value in (2.0, 3.0))
    (x * x * y).backward(create_graph=True)
    assert x.grad.item() == 12.0
    x.grad.data.zero_()
    x.grad.backward()
    assert x.grad.item() == 6.0


def test_gradients_add_up_until_they_are_cleared() -> None:
    x = eager.ones(2, 2, requires_grad=True)
    ((x + 2) ** 2 * 3).mean().backward()
    x.sum().backward()
    assert x.grad.tolist() == [[5.5, 5.5], [5.5, 5.5]]
    x.grad.zero_()
    x.sum().backward()
    with sg.Graph():
        node = sg.placeholder("x", (2, 2))
    both = sg.gradients([((node + 2) ** 2 * 3).mean(), node.sum()], [node])
    once = sg.gradients(node.sum(), [node])
    assert sg.evaluate(both[0], {node: np.ones((2, 2))}).tolist() == [[5.5, 5.5], [5.5, 5.5]]
    assert x.grad.tolist() == sg.evaluate(once[0], {node: np.ones((2, 2))}).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_value_changed_behind_the_tape() -> None:
    """A change through ``.data`` changes the value, and not the gradient of what was recorded: d(2x) = 2."""
    x = eager.ones(1, requires_grad=True)
    y = 2 * x
    x.data *= 100
    y.backward()
    assert (x.tolist(), x.grad.tolist(), x.data.requires_grad) == ([100.0], [2.0], False)


def _five_steps(x: Any, relu: Callable[[Any], Any]) -> tuple[Any, Any, Any, Any]:
    z = 2 * x
    y1 = z + 5
    y2 = relu(z * z) + x + 3
    return z, y1, y2, y1 - y2 + y2 * x


def test_scalar_engine_step_by_step() -> None:
    """Value and gradient of every step at x = -2: (value, gradient) as the tutorial works them out by hand."""
    expected = {"x": (-2, 64), "z": (-4, 25), "y1": (1, 1), "y2": (17, -3), "loss": (-50, 1)}
    x = eager.tensor(-2.0, requires_grad=True)
    steps = dict(zip(("x", "z", "y1", "y2", "loss"), (x, *_five_steps(x, eager.relu)), strict=True))
    for step in list(steps.values())[1:]:
        step.retain_grad()
    steps["loss"].backward()
    assert {name: (step.item(), step.grad.item()) for name, step in steps.items()} == expected
    with sg.Graph():
        node = sg.placeholder("x")
    nodes = [node, *_five_steps(node, sg.relu)]
    function = sg.function([node], [nodes, sg.gradients(nodes[-1], nodes)], backend="numpy")
    values, gradients = function(-2.0)
    assert dict(zip(expected, zip(values, gradients, strict=True), strict=True)) == expected


class _ScalarEngine:
    """The tutorial's scalar engine, as a reader writes it: a value, a gradient, and one rule per operation."""

    def __init__(self, value: float, parents: tuple[tuple[_ScalarEngine, float], ...] = ()) -> None:
        self.value, self.gradient, self.parents = value, 0.0, parents

    def __add__(self, other: Any) -> _ScalarEngine:
        other = other if isinstance(other, _ScalarEngine) else _ScalarEngine(other)
        return _ScalarEngine(self.value + other.value, ((self, 1.0), (other, 1.0)))

    def __sub__(self, other: _ScalarEngine) -> _ScalarEngine:
        return _ScalarEngine(self.value - other.value, ((self, 1.0), (other, -1.0)))

    def __mul__(self, other: Any) -> _ScalarEngine:
        other = other if isinstance(other, _ScalarEngine) else _ScalarEngine(other)
        return _ScalarEngine(self.value * other.value, ((self, other.value), (other, self.value)))

    __rmul__ = __mul__

    def relu(self) -> _ScalarEngine:
        return _ScalarEngine(max(self.value, 0.0), ((self, float(self.value > 0)),))

    def backward(self) -> None:
        order: list[_ScalarEngine] = []
        stack = [(self, False)]
        while stack:
            node, visited = stack.pop()
            if visited:
                order.append(node)
            elif node not in order:
                stack.append((node, True))
                stack.extend((parent, False) for parent, _ in node.parents)
        self.gradient = 1.0
        for node in reversed(dict.fromkeys(order)):
            for parent, partial in node.parents:
                parent.gradient += partial * node.gradient


@pytest.mark.parametrize("value", [-2.0, 0.5, 3.0])
def test_scalar_engine_agrees(value: float) -> None:
    own = _ScalarEngine(value)
    loss = _five_steps(own, lambda s: s.relu())[-1]
    loss.backward()
    x = eager.tensor(value, requires_grad=True)
    _five_steps(x, eager.relu)[-1].backward()
    # loss = 2x + 5 + (4x² + x + 3)(x - 1)
    by_hand = 2 + (8 * value + 1) * (value - 1) + 4 * value**2 + value + 3
    assert own.gradient == x.grad.item() == pytest.approx(by_hand)


class Rectify(eager.autograd.Function):
    """A rectifier whose backward changes its gradient in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result = g.clone()
        result[x < 0] = 0
        return result


class Leak(eager.autograd.Function):
    """A leaky rectifier whose slope is no tensor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return eager.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return g * eager.where(x > 0, 1, ctx.slope), None


def test_own_functions() -> None:
    points = np.array([-1.0, 2.0, -3.0])
    with sg.Graph():
        node = sg.placeholder("x", (3,))
    for own, declared, expected in (
        (Rectify.apply, sg.relu(node), [0.0, 1.0, 0.0]),
        (lambda x: Leak.apply(x, 0.05), sg.leaky_relu(node, 0.05), [0.05, 1.0, 0.05]),
    ):
        x = eager.tensor(points, requires_grad=True)
        y = own(x)
        y.sum().backward()
        value, gradient = sg.evaluate([declared, *sg.gradients(declared.sum(), [node])], {node: points})
        np.testing.assert_allclose(y.detach().numpy(), value)
        assert x.grad.tolist() == pytest.approx(expected, rel=1e-7)  # PyTorch's where of two numbers is float32
        assert gradient.tolist() == expected


@pytest.mark.parametrize("line", [(1.0, 1.0, 4), (2.0, 1.0, 11)])
def test_fitting_a_line_step_by_step(line: tuple[float, float, int]) -> None:
    """The same hundred steps of gradient descent from the same weights, dynamic, declared, and by hand."""
    slope, intercept, count = line
    points = np.arange(count, dtype=float).reshape(-1, 1) + (count == 4)
    targets = slope * points + intercept
    model = eager.nn.Linear(1, 1).double()
    start = np.array([[0.3]]), np.array([-0.2])
    model.load_state_dict({"weight": start[0], "bias": start[1]})
    optimizer = eager.optim.SGD(model.parameters(), lr=0.01)
    criterion = eager.nn.MSELoss()
    with sg.Graph() as graph:
        weight, bias = sg.variable(start[0]), sg.variable(start[1])
        prediction = sg.constant(points) @ weight.T + bias
        loss = sg.mean_squared_error(prediction, sg.constant(targets))
    updates = {v: v - 0.01 * g for v, g in zip((weight, bias), sg.gradients(loss, [weight, bias]), strict=True)}
    session = sg.Session(graph)
    step = sg.function([], loss, updates=updates, backend="numpy", session=session)
    w, b = 0.3, -0.2
    for _ in range(100):
        output = criterion(model(eager.from_numpy(points)), eager.from_numpy(targets))
        optimizer.zero_grad()
        output.backward()
        optimizer.step()
        residual = w * points + b - targets
        assert output.item() == pytest.approx(step(), rel=1e-9) == pytest.approx(np.mean(residual**2), rel=1e-9)
        w, b = w - 0.01 * np.mean(2 * residual * points), b - 0.01 * np.mean(2 * residual)
    assert model.weight.item() == pytest.approx(w, rel=1e-9)
    assert model.bias.item() == pytest.approx(b, rel=1e-9)


def test_tape_as_a_picture() -> None:
    """One box a step, one arrow a use: x**2 + 2x + 1 uses x twice."""
    x = eager.tensor([2.0, 3.0], requires_grad=True)
    source = eager.make_dot(x**2 + 2 * x + 1, params={"x": x}).source
    labels = [line.split('label="')[1].split('"')[0] for line in source.splitlines() if "label=" in line]
    assert sorted(labels) == sorted(
        ["(2)", "AddBackward0", "AddBackward0", "PowBackward0", "MulBackward0", "AccumulateGrad", "x\\n (2)"]
    )
    assert source.count("->") == 7
    assert source.startswith("digraph")
