"""Indexing means what NumPy means, on known and symbolic sizes, and its derivatives are exact."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import symgraph as sg
from symgraph.op import FUNCTIONS

SHAPE = (4, 5, 3)
DATA = np.arange(60.0).reshape(SHAPE) + 0.5
P = np.array([2, 0, -1])
Q = np.array([[1], [-4]])

BASIC = [
    np.s_[1], np.s_[-1], np.s_[1, 2, 0], np.s_[1:3], np.s_[:-1, 1:], np.s_[::-1], np.s_[::2, ::-2], np.s_[3:0:-2],
    np.s_[-1:-4:-1], np.s_[..., 1], np.s_[0, ..., 2], np.s_[None], np.s_[:, None, 1, ..., None], np.s_[...],
    np.s_[()], np.s_[2:1], np.s_[10:], np.s_[-10:2], np.s_[:, 4:100:3], np.s_[np.int64(2)], np.s_[5:1:-1],
]  # fmt: skip
ADVANCED = [
    np.s_[P], np.s_[:, P], np.s_[P, 1], np.s_[0, P], np.s_[P, :, P], np.s_[:, P, P], np.s_[Q, P], np.s_[Q, :, P],
    np.s_[[0, 1]], np.s_[..., P], np.s_[1:3, P, ::2], np.s_[P, None, P], np.s_[None, P, :, None], np.s_[0, :, P],
    np.s_[:, 0, P], np.s_[:, P, 0], np.s_[P, 1:, 0], np.s_[:, P, ..., P], np.s_[::-1, Q], np.s_[P[:0]], np.s_[[]],
    np.s_[np.array(2)], np.s_[np.array(1), :, P], np.s_[P.astype("uint8") % 3, 1], np.s_[:, (1, 2)], np.s_[Q, P, [2]],
]  # fmt: skip


def placeholder(shape, dtype="float64", name="x"):
    with sg.Graph():
        return sg.placeholder(name, shape, dtype)


def central_difference(function, x, seed, step=1e-6):
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        gradient[place] = np.sum((function(moved[0]) - function(moved[1])) * seed) / (2 * step)
    return gradient


def check_value_and_gradient(build, reference, x, shape=None):
    node = placeholder(x.shape if shape is None else shape)
    out = build(node)
    expected = np.asarray(reference(x))
    got = sg.evaluate(out, {node: x})
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    if shape is None:
        assert out.shape == expected.shape
    seed = np.cos(np.arange(expected.size)).reshape(expected.shape)
    with node.graph:
        weights = sg.placeholder("weights", out.shape)
    (gradient,) = sg.gradients(out, [node], [weights], unconnected="zero")
    np.testing.assert_allclose(
        sg.evaluate(gradient, {node: x, weights: seed}), central_difference(reference, x, seed), atol=1e-7
    )


@pytest.mark.parametrize("index", [*BASIC, *ADVANCED], ids=str)
def test_an_index_selects_what_numpy_selects(index):
    check_value_and_gradient(lambda x: x[index], lambda x: x[index], DATA)


@pytest.mark.parametrize(
    "index", list(itertools.product([None, slice(None), 1, P, Ellipsis, slice(0, 2)], repeat=3)), ids=str
)
def test_every_mixture_of_indices_has_numpys_shape(index):
    if sum(entry is Ellipsis for entry in index) > 1:
        with pytest.raises(sg.ShapeError, match="Ellipsis"):
            placeholder(SHAPE)[index]
        return
    x = placeholder(SHAPE)
    np.testing.assert_array_equal(sg.evaluate(x[index], {x: DATA}), DATA[index])


@pytest.mark.parametrize("start", [None, -7, -3, 0, 2, 9])
@pytest.mark.parametrize("stop", [None, -7, -1, 0, 3, 9])
@pytest.mark.parametrize("step", [None, 1, 3, -1, -2])
def test_every_slice_of_a_known_size_is_numpys(start, stop, step):
    x = placeholder((6,))
    values = np.arange(6.0)
    np.testing.assert_array_equal(sg.evaluate(x[start:stop:step], {x: values}), values[start:stop:step])


SYMBOLIC = [
    np.s_[2:], np.s_[:3], np.s_[-2:], np.s_[:-2], np.s_[1:-1], np.s_[-3:-1], np.s_[::2], np.s_[1::3], np.s_[::-1],
    np.s_[::-2], np.s_[-2::-1], np.s_[2::-1], np.s_[2::-2], np.s_[:1:-1], np.s_[-1], np.s_[0], np.s_[3], np.s_[-3],
    np.s_[3:1], np.s_[None, 1:], np.s_[..., 1:], np.s_[2:4], np.s_[-1:-3:-1], np.s_[:0], np.s_[1:-1:2],
]  # fmt: skip


@pytest.mark.parametrize("size", [4, 5, 8])
@pytest.mark.parametrize("index", SYMBOLIC, ids=str)
def test_a_symbolic_size_is_sliced_as_numpy_does(index, size):
    check_value_and_gradient(lambda x: x[index], lambda x: x[index], np.arange(size * 1.0), ("n",))


@pytest.mark.parametrize(
    "index", [np.s_[P, 1:], np.s_[1:, P], np.s_[P, ..., 0], np.s_[-1, :, P], np.s_[:, Q, P]], ids=str
)
def test_integer_arrays_index_symbolic_sizes(index):
    check_value_and_gradient(lambda x: x[index], lambda x: x[index], DATA, ("n", "m", "k"))


def test_sizes_of_symbolic_slices_are_polynomials():
    x = placeholder(("n",))
    n = x.shape[0]
    assert x[1:].shape == (n - 1,)
    assert x[-2:].shape == (2,)
    assert x[::2].shape == ((n + 1) // 2,)
    assert x[n - 2 :].shape == (2,)
    assert x[1:n].shape == (n - 1,)
    values = np.arange(7.0)
    np.testing.assert_array_equal(sg.evaluate(x[n - 2 :], {x: values}), values[5:])
    np.testing.assert_array_equal(sg.evaluate(x[n - 2], {x: values}), values[5])


@pytest.mark.parametrize(
    ("index", "size"), [(np.s_[3:], 2), (np.s_[:4], 3), (np.s_[-4:], 3), (np.s_[5], 5), (np.s_[-6], 5)]
)
def test_bounds_that_a_symbolic_size_does_not_have_are_refused_at_the_call(index, size):
    x = placeholder(("n",))
    with pytest.raises(sg.SizeError, match="n = "):
        sg.evaluate(x[index], {x: np.zeros(size)})


def test_the_empty_end_of_a_symbolic_slice_is_allowed():
    x = placeholder(("n",))
    for index in (np.s_[3:], np.s_[:-3], np.s_[::-1], np.s_[3::2]):
        size = 0 if index == np.s_[::-1] else 3
        assert sg.evaluate(x[index], {x: np.zeros(size)}).shape == (0,)


def test_integer_nodes_index():
    with sg.Graph():
        x, i, k = sg.placeholder("x", ("n", 3)), sg.placeholder("i", ("m",), "int32"), sg.placeholder("k", (), "int64")
    feed = {x: DATA[0], i: np.array([4, 0, -2, 4]), k: np.array(-1)}
    np.testing.assert_array_equal(sg.evaluate(x[i], feed), DATA[0][feed[i]])
    np.testing.assert_array_equal(sg.evaluate(x[k], feed), DATA[0][-1])
    np.testing.assert_array_equal(sg.evaluate(x[i, k], feed), DATA[0][feed[i], -1])
    gradient = sg.grad(sg.sum(x[i] ** 2), x)
    counts = np.bincount([4, 0, 3, 4], minlength=5)[:, None]
    np.testing.assert_array_equal(sg.evaluate(gradient, feed), 2 * counts * DATA[0])


@pytest.mark.parametrize("index", [4, (0, -6), (0, 0, 3), (1, 2, 0, 0), (slice(None, None, 0),), (True,)], ids=str)
def test_an_impossible_index_is_refused_when_it_is_declared(index):
    with pytest.raises(sg.ShapeError, match=r"(?s)getitem.*declared at .*test_indexing"):
        placeholder(SHAPE)[index]


def test_the_message_names_index_axis_and_shape():
    with pytest.raises(sg.ShapeError, match=r"index -6 is out of bounds for axis 1 of shape \(4, 5, 3\)"):
        placeholder(SHAPE)[0, -6]


@pytest.mark.parametrize("index", [1.5, "a", (0, 2.0), np.array([0.5]), slice(0.5, 2)], ids=str)
def test_an_index_that_is_no_integer_is_refused(index):
    with pytest.raises(sg.DTypeError):
        placeholder(SHAPE)[index]


@pytest.mark.parametrize("mask", [DATA > 3, (DATA > 3).tolist(), True], ids=["array", "list", "bool"])
def test_a_boolean_mask_is_refused_with_advice(mask):
    with pytest.raises(sg.ShapeError, match=r"sg\.where\(mask, x, 0\)"):
        placeholder(SHAPE)[mask]
    x = placeholder(SHAPE)
    with pytest.raises(sg.ShapeError, match=r"sg\.where\(mask, x, 0\)"):
        x[x > 3]


@pytest.mark.parametrize("outside", [4, -5])
def test_an_index_array_out_of_range_raises_at_the_call(outside):
    x = placeholder(SHAPE)
    with pytest.raises(IndexError):
        sg.evaluate(x[[0, outside]], {x: DATA})


def updated(x, index, value, add):
    out = np.array(x)
    if add:
        np.add.at(out, index, value)
    else:
        out[index] = value
    return out


UPDATES = [index for index in [*BASIC, *ADVANCED] if not (isinstance(index, list) and index == [])]


@pytest.mark.parametrize("add", [False, True], ids=["set", "add"])
@pytest.mark.parametrize("index", UPDATES, ids=str)
def test_an_update_changes_what_numpys_assignment_changes(index, add):
    value = np.sin(np.arange(DATA[index].size)).reshape(DATA[index].shape)
    update = (lambda x, v: x.at[index].add(v)) if add else (lambda x, v: x.at[index].set(v))
    check_value_and_gradient(lambda x: update(x, value) ** 2, lambda x: updated(x, index, value, add) ** 2, DATA)
    check_value_and_gradient(lambda v: update(DATA_NODE, v) ** 2, lambda v: updated(DATA, index, v, add) ** 2, value)
    x = placeholder(SHAPE)
    np.testing.assert_array_equal(sg.evaluate(update(x, 7), {x: DATA}), updated(DATA, index, 7, add))


DATA_NODE = sg.constant(DATA)


@pytest.mark.parametrize("index", SYMBOLIC, ids=str)
def test_updates_of_symbolic_sizes(index):
    values = np.arange(6.0)
    check_value_and_gradient(
        lambda x: x.at[index].set(2) * x, lambda x: updated(x, index, 2, False) * x, values, ("n",)
    )
    check_value_and_gradient(lambda x: x.at[index].add(2) * x, lambda x: updated(x, index, 2, True) * x, values, ("n",))


def test_where_an_index_repeats_only_the_last_value_set_has_a_derivative():
    index = np.array([[1, 3, 1], [0, 3, 1]])
    for layout in (index, np.asfortranarray(index), index[::-1][::-1]):
        check_value_and_gradient(
            lambda v, i=layout: sg.constant(DATA).at[i].set(v) ** 2,
            lambda v, i=layout: sequential(DATA, i, v) ** 2,
            np.sin(np.arange(90.0)).reshape(2, 3, 5, 3),
        )


def sequential(x, index, value):
    out = x.copy()
    for place in np.ndindex(index.shape):
        out[index[place]] = value[place]
    return out


def test_second_derivatives_of_updates_and_gathers():
    x = placeholder((4,))
    index = [1, 1, 3]
    y = sg.sum(x.at[index].set(x[index] ** 3) ** 2)
    (first,) = sg.gradients(y, [x])
    (second,) = sg.gradients(sg.sum(first * first), [x])
    point = np.array([0.3, -0.7, 1.1, 0.4])
    expected = np.where([False, True, False, True], 6 * point**5, 2 * point)
    np.testing.assert_allclose(sg.evaluate(first, {x: point}), expected, rtol=1e-12)
    curvature = np.where([False, True, False, True], 30 * point**4, 2.0)
    np.testing.assert_allclose(sg.evaluate(second, {x: point}), 2 * expected * curvature, rtol=1e-12)


def test_updates_at_a_mask():
    x = placeholder(SHAPE)
    rows = DATA[:, :, 0] > 20
    for mask, value in [(DATA > 9, 2.0), (rows, 2.0), (rows, np.array([1.0, 2.0, 3.0]))]:
        np.testing.assert_array_equal(sg.evaluate(x.at[mask].set(value), {x: DATA}), updated(DATA, mask, value, False))
        np.testing.assert_array_equal(sg.evaluate(x.at[mask].add(value), {x: DATA}), updated(DATA, mask, value, True))
    np.testing.assert_array_equal(sg.evaluate(x.at[x > 9].set(0), {x: DATA}), updated(DATA, DATA > 9, 0, False))
    with pytest.raises(sg.ShapeError, match=r"sg\.where\(mask, value, x\)"):
        x.at[DATA > 9].set(np.zeros(3))
    with pytest.raises(sg.ShapeError, match="mask of shape"):
        x.at[np.array([True, False])].set(0)


def test_an_update_keeps_the_dtype_or_is_refused():
    small, whole = placeholder((3,), "float32"), placeholder((3,), "int8")
    assert small.at[0].set(np.float64(0.1)).dtype == "float32"
    assert small.at[0].set(3).dtype == "float32"
    assert whole.at[0].add(3).dtype == "int8"
    for refused in (1.5, np.array([1.5]), 300):
        with pytest.raises(sg.DTypeError):
            whole.at[0].set(refused)
    with pytest.raises(sg.ShapeError):
        small.at[:2].set(np.zeros(3))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("indices", [1, [2, 0, -1], [[0, 1], [1, 0]], np.zeros((0,), int)], ids=str)
def test_take(indices, axis):
    check_value_and_gradient(lambda x: sg.take(x, indices, axis), lambda x: np.take(x, indices, axis), DATA)
    check_value_and_gradient(
        lambda x: np.take(x, indices, axis=axis), lambda x: np.take(x, indices, axis), DATA, ("n", "m", 3)
    )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_along_axis(axis):
    order = np.argsort(np.sin(DATA), axis)
    narrow = np.take(order, [0], axis=axis)
    for indices in (order, narrow, order[:1, :, :] if axis != 0 else order[:, :1]):
        check_value_and_gradient(
            lambda x, i=indices: sg.take_along_axis(x, i, axis),
            lambda x, i=indices: np.take_along_axis(x, i, axis),
            DATA,
        )
    x = placeholder(("n", 5, 3))
    index = sg.argmax(x, axis, keepdims=True)
    np.testing.assert_array_equal(
        sg.evaluate(sg.take_along_axis(x, index, axis), {x: DATA}), DATA.max(axis, keepdims=True)
    )


def test_one_hot():
    x = placeholder(("n",), "int32", "labels")
    values = np.array([2, 0, -1, 3])
    expected = np.array([[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]], "float32")
    np.testing.assert_array_equal(sg.evaluate(sg.one_hot(x, 3, "float32"), {x: values}), expected)
    np.testing.assert_array_equal(sg.evaluate(sg.one_hot(x, 3, "float32", axis=0), {x: values}), expected.T)
    assert sg.one_hot(x, x.shape[0]).shape == (x.shape[0], x.shape[0])
    with pytest.raises(sg.DTypeError):
        sg.one_hot(np.array([0.5]), 3)


SHAPES = [((4, 4), ("n", "n")), ((3, 5), None), ((5, 3), None), ((2, 4, 4), ("b", "n", "n"))]


@pytest.mark.parametrize("k", [-3, -1, 0, 2])
@pytest.mark.parametrize(("shape", "symbolic"), SHAPES, ids=str)
@pytest.mark.parametrize("name", ["tril", "triu"])
def test_triangles(name, shape, symbolic, k):
    x = np.sin(np.arange(np.prod(shape)) + 1.0).reshape(shape)
    function, reference = getattr(sg, name), getattr(np, name)
    for declared in {None, symbolic}:
        check_value_and_gradient(lambda x: function(x, k), lambda x: reference(x, k), x, declared)


@pytest.mark.parametrize("offset", [-3, -1, 0, 2])
@pytest.mark.parametrize(("shape", "symbolic"), SHAPES, ids=str)
def test_diagonals_and_traces(shape, symbolic, offset):
    x = np.sin(np.arange(np.prod(shape)) + 1.0).reshape(shape)
    axes = (len(shape) - 2, len(shape) - 1)
    for declared in {None, symbolic}:
        check_value_and_gradient(
            lambda x: sg.diagonal(x, offset, *axes), lambda x: np.diagonal(x, offset, *axes), x, declared
        )
        node = placeholder(shape if declared is None else declared)
        np.testing.assert_allclose(sg.evaluate(np.trace(node, offset, *axes), {node: x}), np.trace(x, offset, *axes))


def test_diagonals_on_other_axes():
    check_value_and_gradient(lambda x: np.diagonal(x, 1), lambda x: np.diagonal(x, 1), DATA)
    check_value_and_gradient(lambda x: sg.diagonal(x, 0, 2, 0), lambda x: np.diagonal(x, 0, 2, 0), DATA)
    x = placeholder(("n", "m"))
    with pytest.raises(sg.ShapeError, match="which of n and m is smaller is not known"):
        sg.diagonal(x)
    with pytest.raises(sg.ShapeError, match="rows and columns"):
        FUNCTIONS["trace"](x, 0, 1, 1)


@pytest.mark.parametrize("k", [-2, 0, 1])
def test_diag_of_a_vector_and_of_a_matrix(k):
    for declared in (None, ("n",)):
        check_value_and_gradient(lambda x: sg.diag(x, k), lambda x: np.diag(x, k), np.array([1.0, 2.0, 3.0]), declared)
    check_value_and_gradient(lambda x: np.diag(x, k), lambda x: np.diag(x, k), DATA[0])
    with pytest.raises(sg.ShapeError):
        sg.diag(placeholder(SHAPE), k)


def test_nan_outside_a_triangle_does_no_harm():
    x = placeholder(("n", "n"))
    values = np.array([[1.0, np.nan], [2.0, 3.0]])
    total = sg.sum(sg.tril(sg.log(x)))
    np.testing.assert_allclose(sg.evaluate(sg.grad(total, x), {x: values}), [[1, 0], [0.5, 1 / 3]])
