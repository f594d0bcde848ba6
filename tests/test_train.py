"""Optimisers: the steps are PyTorch's, forward, backward and update are one program."""

from __future__ import annotations

import numpy as np
import pytest

import symgraph as sg

OPTIMIZERS = {
    "sgd": (sg.train.GradientDescent, lambda torch: (torch.optim.SGD, {})),
    "momentum": (lambda rate: sg.train.Momentum(rate, 0.9), lambda torch: (torch.optim.SGD, {"momentum": 0.9})),
    "nesterov": (
        lambda rate: sg.train.Momentum(rate, 0.8, nesterov=True),
        lambda torch: (torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    ),
    "adam": (sg.train.Adam, lambda torch: (torch.optim.Adam, {})),
    "adam_changed": (
        lambda rate: sg.train.Adam(rate, 0.7, 0.95, 1e-3),
        lambda torch: (torch.optim.Adam, {"betas": (0.7, 0.95), "eps": 1e-3}),
    ),
}


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    return request.param


@pytest.fixture
def graph():
    with sg.Graph() as graph:
        yield graph


def least_squares(dtype="float64"):
    """A regression: its data, the graph's nodes, and the initial values."""
    rng = np.random.default_rng(3)
    data = rng.normal(size=(20, 3)).astype(dtype), rng.normal(size=20).astype(dtype)
    X, y = sg.placeholder("X", ("n", 3), dtype), sg.placeholder("y", ("n",), dtype)
    w = sg.variable(rng.normal(size=3).astype(dtype), name="w")
    b = sg.variable(np.dtype(dtype).type(0.5), name="b")
    return data, (X, y), (w, b), sg.mean((X @ w + b - y) ** 2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_pytorch(backend, graph, name, dtype):
    torch = pytest.importorskip("torch")
    ours, theirs = OPTIMIZERS[name]
    data, inputs, variables, loss = least_squares(dtype)
    step = ours(0.1).minimize(loss)
    tensors = [torch.tensor(graph.initial_value(v), requires_grad=True) for v in variables]
    kind, options = theirs(torch)
    optimizer = kind(tensors, lr=0.1, **options)
    X, y = (torch.tensor(value) for value in data)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    with sg.Session(graph, backend=backend) as session:
        for _ in range(30):
            optimizer.zero_grad()
            their_loss = ((X @ tensors[0] + tensors[1] - y) ** 2).mean()
            their_loss.backward()
            optimizer.step()
            none, our_loss = session.run([step, loss], dict(zip(inputs, data, strict=True)))
            assert none is None
            assert our_loss.dtype == dtype
            assert our_loss == pytest.approx(their_loss.item(), rel=tolerance)
        for variable, tensor in zip(variables, tensors, strict=True):
            value = session.value(variable)
            assert value.dtype == dtype
            np.testing.assert_allclose(value, tensor.detach().numpy(), rtol=tolerance, atol=tolerance)


def test_the_first_steps_by_hand(backend, graph):
    w = sg.variable(4.0, name="w")
    loss = w * w
    with sg.Session(graph, backend=backend) as session:
        descent = sg.train.GradientDescent(0.25).minimize(loss)
        assert session.run([loss, descent, loss]) == [16.0, None, 16.0]
        assert session.value(w) == 2.0
        momentum = sg.train.Momentum(0.25, 0.5).minimize(loss)
        session.run(momentum)
        assert (session.value(w), session.value("w/momentum")) == (1.0, 4.0)
        session.run(momentum)
        assert (session.value(w), session.value("w/momentum")) == (0.0, 4.0)


def test_a_function_trains_as_a_session_does(backend, graph):
    data, inputs, _, loss = least_squares()
    step = sg.train.Adam(0.05).minimize(loss)
    session = sg.Session(graph, backend=backend)
    twin = sg.Session(graph, backend=backend)
    train = sg.function(list(inputs), loss, updates=step.updates, backend=backend, session=session)
    for _ in range(5):
        assert train(*data) == twin.run([step, loss], dict(zip(inputs, data, strict=True)))[1]
    for variable in graph.variables.values():
        np.testing.assert_array_equal(session.value(variable), twin.value(variable))
    assert session.value("w/adam_step") == 5


def test_the_learning_rate_may_be_fed_or_held(backend, graph):
    w = sg.variable(np.float32(1.0), name="w")
    rate = sg.placeholder("rate")
    fed = sg.train.GradientDescent(rate).minimize(w * w)
    held = sg.variable(0.25, name="held", trainable=False)
    with sg.Session(graph, backend=backend) as session:
        session.run(fed, {rate: 0.25})
        assert session.value(w) == np.float32(0.5)
        kept = sg.train.Momentum(held, 0.0).minimize(w * w)
        session.run(kept)
        assert session.value(w) == np.float32(0.25)
        session.assign(held, 0.0)
        session.run(kept)
        assert session.value(w) == np.float32(0.25)
        with pytest.raises(sg.ArgumentError, match=r"no value is fed for <placeholder rate.*GradientDescent of w"):
            session.run(fed)


def test_gradients_may_be_changed_before_they_are_applied(backend, graph):
    w = sg.variable([3.0, -4.0], name="w")
    optimizer = sg.train.GradientDescent(1.0)
    ((gradient, variable),) = optimizer.compute_gradients(sg.sum(w * w))
    assert variable is w
    step = optimizer.apply_gradients([(sg.clip(gradient, -1.0, 1.0), w)])
    with sg.Session(graph, backend=backend) as session:
        session.run(step)
        np.testing.assert_array_equal(session.value(w), [2.0, -3.0])


def test_only_trainable_connected_variables_are_updated(graph):
    w, other = sg.variable(1.0, name="w"), sg.variable(1.0, name="other")
    fixed = sg.variable(1.0, name="fixed", trainable=False)
    count = sg.variable(1, name="count")
    loss = w * fixed + count
    assert list(sg.train.GradientDescent(0.1).minimize(loss).updates) == [w]
    assert list(sg.train.GradientDescent(0.1).minimize(loss, [fixed]).updates) == [fixed]
    with pytest.raises(sg.DifferentiationError):
        sg.train.GradientDescent(0.1).minimize(loss, [w, other])


def test_slots_have_readable_names_and_serve_one_optimizer(graph):
    with sg.name_scope("layer"):
        w = sg.variable([1.0, 2.0], name="w")
    loss = sg.sum(w * w)
    optimizer = sg.train.Momentum(0.1, 0.9)
    optimizer.minimize(loss)
    optimizer.minimize(loss * 2)
    assert list(graph.variables) == ["layer/w", "layer/w/momentum"]
    sg.train.Momentum(0.1, 0.9).minimize(loss)
    assert list(graph.variables)[2:] == ["layer/w/momentum_1"]
    assert graph.trainable_variables == [w]
    with sg.Graph():
        sg.train.Adam().minimize(loss)
    assert list(graph.variables)[3:] == [f"layer/w/adam_{slot}" for slot in ("step", "mean", "square")]


def test_what_cannot_be_trained_is_refused_and_nothing_is_declared(graph):
    w, x = sg.variable([1.0, 2.0], name="w"), sg.placeholder("x", ("n",))
    count = sg.variable(3, name="count")
    with sg.Graph():
        foreign = sg.variable([1.0, 2.0], name="foreign")
    with sg.Graph():
        alone = sg.placeholder("alone")
    loss = sg.sum(w * w)
    adam = sg.train.Adam()
    refusals = [
        (lambda: adam.minimize(3.0), sg.DifferentiationError, "the loss is a node, not 3.0"),
        (lambda: adam.minimize(sg.constant(3.0)), sg.DifferentiationError, "is constant"),
        (lambda: adam.minimize(alone * 2), sg.DifferentiationError, "no trainable variables"),
        (lambda: adam.minimize(sg.sum(x)), sg.DifferentiationError, r"depends on no trainable variable \(w, count\)"),
        (lambda: adam.minimize(loss, []), sg.DifferentiationError, "no variables to update"),
        (lambda: adam.minimize(loss, [count]), sg.DTypeError, "no gradient"),
        (lambda: adam.minimize(loss, [x]), sg.DeclarationError, "only variables can be updated"),
        (lambda: adam.minimize(loss, [foreign]), sg.GraphError, "different graphs"),
        (lambda: adam.minimize(sg.sum(count)), sg.DifferentiationError, "integers and booleans are constants"),
        (lambda: adam.apply_gradients([]), sg.DeclarationError, "no gradients to apply"),
        (lambda: adam.apply_gradients([(w, w), (w, w)]), sg.DeclarationError, "updated twice"),
        (lambda: adam.apply_gradients([(sg.sum(w), w)]), sg.ShapeError, r"w has shape \(\), the variable \(2,\)"),
        (lambda: adam.apply_gradients([(w.astype("float32"), w)]), sg.DTypeError, "is float32, the variable float64"),
        (lambda: adam.apply_gradients([(foreign, w)]), sg.GraphError, "another graph"),
        (lambda: adam.apply_gradients([(1.0, w)]), sg.DeclarationError, "is a node, not 1.0"),
        (lambda: sg.train.GradientDescent(-1.0), sg.DeclarationError, "at least 0, not -1.0"),
        (lambda: sg.train.GradientDescent(float("nan")), sg.DeclarationError, "not nan"),
        (lambda: sg.train.GradientDescent("fast"), sg.DeclarationError, "not 'fast'"),
        (lambda: sg.train.GradientDescent(w), sg.ShapeError, r"a scalar, not of shape \(2,\)"),
        (lambda: sg.train.GradientDescent(count), sg.DTypeError, "not int64"),
        (lambda: sg.train.Momentum(0.1, 1.5), sg.DeclarationError, "momentum is a number from 0"),
        (lambda: sg.train.Adam(beta2=1.0), sg.DeclarationError, "beta2 is a number from 0"),
        (lambda: sg.train.Adam(epsilon=-1.0), sg.DeclarationError, "epsilon"),
    ]
    for call, error, message in refusals:
        with pytest.raises(error, match=message):
            call()
    assert list(graph.variables) == ["w", "count"]


def test_a_frozen_graph_trains_without_slots_only(graph):
    w = sg.variable(1.0, name="w")
    loss = w * w
    graph.freeze()
    with pytest.raises(sg.GraphError, match="frozen"):
        sg.train.Momentum(0.1, 0.9).minimize(loss)
    step = sg.train.GradientDescent(0.25).minimize(loss)
    with sg.Session(graph, backend="numpy") as session:
        session.run(step)
        assert session.value(w) == 0.5


def test_a_train_operation_is_frozen(graph):
    w = sg.variable(1.0, name="w")
    step = sg.train.GradientDescent(0.25).minimize(w * w)
    assert repr(step) == "<GradientDescent of w>"
    with pytest.raises(AttributeError):
        step.name = "other"
    with pytest.raises(TypeError):
        step.updates[w] = w
