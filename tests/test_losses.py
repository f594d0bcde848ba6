"""Softmax and the losses agree with PyTorch, stay finite, and refuse shapes that are nearly always a mistake."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import symgraph as sg

LOGITS = np.array([[1.0, -2.0, 0.5], [800.0, 0.0, -800.0], [0.0, 0.0, 0.0], [-3.0, 2.0, 700.0]])
CLASSES = np.array([2, 1, 0, 2])


def declare(*specs):
    with sg.Graph():
        return [sg.placeholder(f"x{i}", shape, dtype) for i, (shape, dtype) in enumerate(specs)]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_is_scipys_and_never_overflows(axis):
    (x,) = declare((("n", 3), "float64"))
    np.testing.assert_allclose(sg.evaluate(sg.softmax(x, axis), {x: LOGITS}), special.softmax(LOGITS, axis), rtol=1e-12)
    np.testing.assert_allclose(
        sg.evaluate(sg.log_softmax(x, axis), {x: LOGITS}), special.log_softmax(LOGITS, axis), rtol=1e-12
    )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_cross_entropy_of_classes_and_of_probabilities_are_pytorchs(axis):
    torch = pytest.importorskip("torch")
    logits = LOGITS if axis else LOGITS.T.copy()
    shape = ("n", 3) if axis else (3, "n")
    x, classes = declare((shape, "float64"), (("n",), "int32"))
    tensor = torch.tensor(logits, requires_grad=True)
    peer = torch.nn.functional.cross_entropy(tensor if axis else tensor.T, torch.tensor(CLASSES), reduction="none")
    peer.sum().backward()
    for labels in (classes, sg.one_hot(classes, 3, axis=axis)):
        loss = sg.softmax_cross_entropy(x, labels, axis)
        feed = {x: logits, classes: CLASSES}
        assert loss.shape == classes.shape
        np.testing.assert_allclose(sg.evaluate(loss, feed), peer.detach().numpy(), rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(sg.evaluate(sg.grad(loss, x), feed), tensor.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_the_loss_of_a_number_that_is_no_class_is_nan():
    loss = sg.softmax_cross_entropy(LOGITS, np.array([3, -1, 0, 2]))
    np.testing.assert_array_equal(np.isnan(sg.evaluate(loss)), [True, True, False, False])


def test_sigmoid_cross_entropy_is_pytorchs_also_far_out():
    torch = pytest.importorskip("torch")
    logits, labels = np.array([-900.0, -1.0, 0.0, 2.0, 900.0]), np.array([1.0, 0.0, 0.25, 1.0, 1.0])
    x, y = declare((("n",), "float64"), (("n",), "float64"))
    tensor = torch.tensor(logits, requires_grad=True)
    peer = torch.nn.functional.binary_cross_entropy_with_logits(tensor, torch.tensor(labels), reduction="none")
    peer.sum().backward()
    loss = sg.sigmoid_cross_entropy(x, y)
    feed = {x: logits, y: labels}
    np.testing.assert_allclose(sg.evaluate(loss, feed), peer.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(sg.evaluate(sg.grad(loss, x), feed), tensor.grad.numpy(), rtol=1e-12)


def test_mean_squared_error():
    x, y = declare((("n", 2), "float64"), (("n", 2), "float64"))
    values = {x: np.array([[1.0, 2.0], [3.0, 5.0]]), y: np.array([[0.0, 2.0], [3.0, 1.0]])}
    loss = sg.mean_squared_error(x, y)
    assert sg.evaluate(loss, values) == 17 / 4
    np.testing.assert_allclose(sg.evaluate(sg.grad(loss, x), values), (values[x] - values[y]) / 2)
    assert sg.evaluate(sg.mean_squared_error(x, 1), values) == (0 + 1 + 4 + 16) / 4


def test_shapes_that_only_broadcast_are_refused():
    column, row, classes = declare((("n", 1), "float64"), (("n",), "float64"), (("n",), "int64"))
    for function in (sg.mean_squared_error, sg.sigmoid_cross_entropy):
        with pytest.raises(sg.ShapeError, match=r"\(n, 1\) and \(n,\) differ"):
            function(column, row)
    with pytest.raises(sg.ShapeError, match="neither probabilities nor classes"):
        sg.softmax_cross_entropy(row, classes[:, None])
    with pytest.raises(sg.DTypeError, match="integers"):
        sg.softmax_cross_entropy(column, row)
