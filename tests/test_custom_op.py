"""A user's own operation works in both engines, to second order, compiled, and is checked where it is used."""

from __future__ import annotations

import math

import numpy as np
import pytest

import symgraph as sg
from symgraph import eager

POINT = np.array([0.5, -1.25, 2.0])


def declare(*shapes, dtype="float64"):
    with sg.Graph():
        return [sg.placeholder(f"x{i}", shape, dtype) for i, shape in enumerate(shapes)]


def softsign(x):
    """Return x / (1 + |x|)."""
    return x / (1 + sg.abs(x))


def softsign_array(x):
    return x / (1 + np.abs(x))


def softsign_number(x):
    return x / (1 + x) if x >= 0 else x / (1 - x)


def softsign_partial(g, out, x):
    return g / (1 + sg.abs(x)) ** 2


LEVELS = {
    "operations": {"forward": softsign, "vjp": lambda *args: [softsign_partial(*args)]},
    "operations, derived": {"forward": softsign},
    "arrays": {"forward": softsign_array, "vjp": lambda *args: [softsign_partial(*args)], "opaque": True},
    "arrays, type rule": {
        "forward": softsign_array,
        "vjp": lambda *args: [softsign_partial(*args)],
        "type_rule": lambda x: sg.ArrayType(x.dtype, x.shape),
    },
    "numbers": {"forward": softsign_number, "derivative": [softsign_partial], "elementwise": True},
}
VALUE = POINT / (1 + np.abs(POINT))
FIRST = 1 / (1 + np.abs(POINT)) ** 2
SECOND = -2 * np.sign(POINT) / (1 + np.abs(POINT)) ** 3


def make(level):
    return sg.custom_op("softsign", **LEVELS[level])


@pytest.mark.parametrize("symbolic", [False, True], ids=["known", "symbolic"])
@pytest.mark.parametrize("level", LEVELS)
def test_value_and_two_derivatives_in_the_static_graph(level, symbolic):
    f = make(level)
    (x,) = declare(("n",) if symbolic else (3,))
    y = f(x)
    first = sg.grad(y, x)
    second = sg.grad(first, x)
    got = sg.evaluate([y, first, second], {x: POINT})
    for value, expected in zip(got, (VALUE, FIRST, SECOND), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-13)


@pytest.mark.parametrize("level", LEVELS)
def test_value_and_two_derivatives_in_the_dynamic_engine(level):
    f = make(level)
    x = eager.tensor(POINT, requires_grad=True)
    y = f(x)
    (first,) = eager.autograd.grad(y.sum(), [x], create_graph=True)
    (second,) = eager.autograd.grad(first.sum(), [x])
    for value, expected in zip((y, first, second), (VALUE, FIRST, SECOND), strict=True):
        np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("level", LEVELS)
def test_value_and_two_derivatives_compiled(level):
    f = make(level)
    (x,) = declare(("n",))
    y = f(x)
    first = sg.grad(y, x)
    compiled = sg.function([x], [y, first, sg.grad(first, x)])
    for value, expected in zip(compiled(POINT), (VALUE, FIRST, SECOND), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_numbers_and_arrays_are_operands(level):
    f = make(level)
    np.testing.assert_allclose(sg.evaluate(f(POINT)), VALUE, rtol=1e-13)
    assert sg.evaluate(f(3.0)) == 0.75
    (x,) = declare((3,), dtype="float32")
    assert sg.evaluate(f(x), {x: POINT.astype("float32")}).dtype == "float32"


def test_the_operation_tells_its_name_and_doc():
    f = make("operations")
    assert (f.__name__, f.__doc__, f.op.name, f.op.arity) == ("softsign", softsign.__doc__, "softsign", 1)
    assert repr(f) == "<custom operation softsign>"


def test_the_own_derivative_overrides_that_of_the_forward_function():
    reverse = sg.custom_op("reverse", lambda x: x * 1.0, vjp=lambda g, out, x: [-3 * g])
    (x,) = declare(())
    y = sg.sin(reverse(x))
    first = sg.grad(y, x)
    assert sg.evaluate(first, {x: 0.3}) == pytest.approx(-3 * math.cos(0.3))
    assert sg.evaluate(sg.grad(first, x), {x: 0.3}) == pytest.approx(-9 * math.sin(0.3))


def test_a_derivative_may_read_the_result():
    own_exp = sg.custom_op("own_exp", np.exp, opaque=True, vjp=lambda g, out, x: [g * out])
    (x,) = declare(("n",))
    third = sg.grad(sg.grad(sg.grad(own_exp(2 * x), x), x), x)
    np.testing.assert_allclose(sg.evaluate(third, {x: POINT}), 8 * np.exp(2 * POINT), rtol=1e-13)


def test_two_arguments_broadcast_and_the_broadcasting_is_undone():
    def vjp(g, out, x, y):
        return [g * y, g * x]

    product = sg.custom_op("product", lambda x, y: x * y, opaque=True, vjp=vjp)
    rules = [lambda g, out, x, y: g * y, lambda g, out, x, y: g * x]
    times = sg.custom_op("times", lambda x, y: x * y, elementwise=True, derivative=rules)
    x, y = declare(("n", 1), (3,))
    feed = {x: np.array([[2.0], [5.0]]), y: POINT}
    for f in (product, times):
        out = f(x, y)
        assert out.shape == (x.shape[0], 3)
        dx, dy = sg.evaluate(sg.gradients(out, [x, y]), feed)
        np.testing.assert_allclose(dx, [[POINT.sum()]] * 2)
        np.testing.assert_allclose(dy, [7.0] * 3)
        np.testing.assert_allclose(sg.evaluate(f(2, x), feed), 2 * feed[x])


def test_a_type_rule_gives_another_shape_and_dtype():
    def cotangents(g, out, x):
        return [sg.where(sg.equal(x, sg.expand_dims(out, -1)), sg.expand_dims(g, -1), 0)]

    peak = sg.custom_op(
        "peak", lambda x: x.max(-1), type_rule=lambda x: sg.ArrayType(x.dtype, x.shape[:-1]), vjp=cotangents
    )
    values = np.array([[1.0, 3.0, 2.0], [9.0, 8.0, 7.0]])
    (x,) = declare(("n", "m"))
    assert peak(x).shape == x.shape[:1]
    np.testing.assert_array_equal(sg.evaluate(peak(x), {x: values}), [3.0, 9.0])
    np.testing.assert_array_equal(sg.evaluate(sg.grad(peak(x), x), {x: values}), [[0, 1, 0], [1, 0, 0]])
    count = sg.custom_op("count", lambda x: np.sum(x > 2), type_rule=lambda x: sg.ArrayType(np.dtype("int64"), ()))
    assert sg.evaluate(count(x), {x: values}) == 4


def test_a_function_of_operations_of_any_sizes():
    centre = sg.custom_op("centre", lambda x: x - x.mean(0), vjp=lambda g, out, x: [g - g.mean(0)])
    (x,) = declare(("n", 2))
    y = centre(x)
    assert y.op.name == "centre"
    assert y.shape == x.shape
    for size in (1, 4):
        values = np.sin(np.arange(2.0 * size)).reshape(size, 2)
        np.testing.assert_allclose(sg.evaluate(y, {x: values}), values - values.mean(0))
        gradient = sg.grad(sg.sum(y**2), x)
        np.testing.assert_allclose(sg.evaluate(gradient, {x: values}), 2 * (values - values.mean(0)), atol=1e-15)


def test_what_a_forward_function_requires_of_sizes_is_checked_at_the_call():
    tail = sg.custom_op("tail", lambda x: x[3:], vjp=lambda g, out, x: [sg.zeros_like(x)])
    (x,) = declare(("n",))
    np.testing.assert_array_equal(sg.evaluate(tail(x), {x: np.arange(5.0)}), [3.0, 4.0])
    with pytest.raises(sg.SizeError, match="n = 2"):
        sg.evaluate(tail(x), {x: np.zeros(2)})


def test_a_custom_operation_inside_another():
    inner = sg.custom_op("inner", np.square, opaque=True, vjp=lambda g, out, x: [2 * g * x])
    outer = sg.custom_op("outer_one", lambda x: inner(x) + 1, vjp=lambda g, out, x: [g * inner(x)])
    (x,) = declare(())
    assert sg.evaluate(outer(x), {x: 3.0}) == 10
    first = sg.grad(outer(x), x)
    assert sg.evaluate([first, sg.grad(first, x)], {x: 3.0}) == [9, 6]


@pytest.mark.parametrize("level", ["arrays", "numbers"])
def test_without_a_derivative_differentiating_names_the_operation(level):
    kind = {"arrays": {"opaque": True}, "numbers": {"elementwise": True}}[level]
    f = sg.custom_op("silent", lambda x: x * 2, **kind)
    (x,) = declare(("n",))
    np.testing.assert_array_equal(sg.evaluate(f(x), {x: POINT}), 2 * POINT)
    with pytest.raises(sg.DifferentiationError, match="silent"):
        sg.grad(f(x), x)


def test_none_is_a_zero_derivative():
    steps = sg.custom_op("steps", np.floor, opaque=True, vjp=lambda g, out, x: [None])
    flat = sg.custom_op("flat", lambda x: x // 1, elementwise=True, derivative=[None])
    (x,) = declare(("n",))
    for f in (steps, flat):
        np.testing.assert_array_equal(sg.evaluate(sg.grad(x + f(x), x), {x: POINT}), np.ones(3))


def test_the_branch_not_taken_does_no_harm():
    own_root = sg.custom_op("own_root", math.sqrt, elementwise=True, derivative=[lambda g, out, x: g / (2 * out)])
    (x,) = declare((3,))
    values = np.array([0.0, 1.0, 4.0])
    roots = sg.where(x > 0, own_root(x), 0)
    np.testing.assert_allclose(sg.evaluate(sg.grad(roots, x), {x: values}), [0, 0.5, 0.25])


def test_a_function_of_numbers_that_takes_no_arrays_is_applied_to_each():
    clamp = sg.custom_op("clamp_number", lambda x, y: max(min(x, y), -y), elementwise=True)
    x, y = declare(("n", 1), (2,))
    feed = {x: np.array([[5.0], [-0.5], [-7.0]]), y: np.array([1.0, 6.0])}
    np.testing.assert_array_equal(sg.evaluate(clamp(x, y), feed), np.clip(feed[x], -feed[y], feed[y]))
    assert sg.evaluate(clamp(x, y), {**feed, x: np.zeros((0, 1))}).shape == (0, 2)


def test_a_forward_function_cannot_write_to_its_arguments():
    def careless(x):
        x += 1
        return x

    (x,) = declare((3,))
    values = POINT.copy()
    opaque = sg.custom_op("careless", careless, opaque=True)
    with pytest.raises(ValueError, match="read-only"):
        sg.evaluate(opaque(x), {x: values})
    each = sg.custom_op("careless", careless, elementwise=True)
    np.testing.assert_array_equal(sg.evaluate(each(x), {x: values}), POINT + 1)
    np.testing.assert_array_equal(values, POINT)


def test_what_a_forward_function_returns_of_its_arguments_is_copied():
    same = sg.custom_op("same", lambda x: x, opaque=True)
    turned = sg.custom_op("turned", lambda x: x[::-1], opaque=True)
    (x,) = declare((3,))
    for backend in ("numpy", "numba"):
        values = POINT.copy()
        results = sg.function([x], [same(x), turned(x), turned(x) * 2], backend=backend)(values)
        values[:] = 0
        for got, expected in zip(results, (POINT, POINT[::-1], 2 * POINT[::-1]), strict=True):
            np.testing.assert_array_equal(got, expected)
            assert got.flags.c_contiguous


def test_arrays_of_float32_stay_so_where_numba_computes_in_float64():
    shifted = sg.custom_op("shifted", lambda x: x.T - 1.5, opaque=True)
    (x,) = declare(("n", "n"), dtype="float32")
    values = np.arange(9, dtype="float32").reshape(3, 3)
    for backend in ("numpy", "numba"):
        got, total = sg.function([x], [shifted(x), sg.sum(shifted(x))], backend=backend)(values)
        np.testing.assert_array_equal(got, values.T - np.float32(1.5), strict=True)
        assert total.dtype == "float32"


def test_what_numba_may_not_compile_is_refused_by_the_compiler_alone():
    own = sg.custom_op("own", np.sin, opaque=True, numba=False)
    (x,) = declare((3,))
    np.testing.assert_array_equal(sg.function([x], own(x), backend="numpy")(POINT), np.sin(POINT))
    with pytest.raises(sg.CompileError, match=r"own: .*numba=False.*backend='numpy'(.|\n)*declared at"):
        sg.function([x], own(x))(POINT)


def test_a_wrong_number_of_arguments_is_refused():
    f = sg.custom_op("pair", lambda x, y: x + y)
    (x,) = declare((3,))
    for args in ([x], [x, x, x], []):
        with pytest.raises(sg.ArgumentError, match=r"pair: .*expected, got"):
            f(*args)


def test_a_result_of_another_type_than_declared_is_refused():
    (x,) = declare((3,))
    shorter = sg.custom_op("shorter", lambda x: x[1:], opaque=True)
    with pytest.raises(sg.ShapeError, match=r"shorter: .*\(2,\).*\(3,\)"):
        sg.evaluate(shorter(x), {x: POINT})
    narrow = sg.custom_op("narrow", lambda x: x.astype("float32"), opaque=True)
    with pytest.raises(sg.DTypeError, match=r"narrow: .*float32.*float64"):
        sg.evaluate(narrow(x), {x: POINT})
    for refused, error in ((shorter, sg.ShapeError), (narrow, sg.DTypeError)):
        with pytest.raises(error, match=r"^(shorter|narrow): forward .* another (shape|dtype) than its type"):
            sg.function([x], refused(x))(POINT)
    untyped = sg.custom_op("untyped", np.sin, type_rule=lambda x: x.shape)
    with pytest.raises(sg.DTypeError, match="ArrayType"):
        untyped(x)
    several = sg.custom_op("several", lambda x: (x, x))
    with pytest.raises(sg.DeclarationError, match="one array"):
        several(x)


@pytest.mark.parametrize(
    ("vjp", "message"),
    [
        (lambda g, out, x: [g, g], "a list of 1 cotangents"),
        (lambda g, out, x: g, "a list of 1 cotangents"),
        (lambda g, out, x: [sg.sum(g)], r"cotangent 0 of shape \(\)"),
        (lambda g, out, x: [sg.stack([g, g])], r"cotangent 0 of shape \(2, 3\)"),
    ],
)
def test_a_vjp_that_returns_something_else_is_refused(vjp, message):
    (x,) = declare((3,))
    f = sg.custom_op("wrong", lambda x: x * 1.0, vjp=vjp)
    with pytest.raises(sg.ShapeError, match=message):
        sg.grad(f(x), x)


def test_a_forward_function_sees_its_arguments_only():
    x, y = declare((3,), (3,))
    f = sg.custom_op("leaky", lambda x: x * y, vjp=lambda g, out, x: [g])
    with pytest.raises(sg.DeclarationError, match=r"leaky: forward uses .*x1"):
        f(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "not a name", "forward": softsign}, "identifier"),
        ({"name": "sin", "forward": softsign}, "built-in"),
        ({"name": "constant", "forward": softsign}, "built-in"),
        ({"name": "f", "forward": softsign, "opaque": True, "elementwise": True}, "not both"),
        ({"name": "f", "forward": softsign, "derivative": [None]}, "derivative="),
        ({"name": "f", "forward": softsign, "elementwise": True, "vjp": softsign}, "vjp="),
        ({"name": "f", "forward": softsign, "elementwise": True, "derivative": [None, None]}, "1 arguments"),
        ({"name": "f", "forward": lambda *x: x[0], "elementwise": True}, "names its arguments"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(arguments, message):
    with pytest.raises(sg.DeclarationError, match=message):
        sg.custom_op(**arguments)
