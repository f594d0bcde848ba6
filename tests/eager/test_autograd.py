"""What the tape promises: gradients or an error, in PyTorch's words."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph import eager
from symgraph.eager import autograd

SECOND_PASS = "Trying to backward through the graph a second time"
MODIFIED = "one of the variables needed for gradient computation has been modified by an inplace operation"
LEAF = "a leaf Variable that requires grad is being used in an in-place operation"


def leaf(*values: float) -> Any:
    return eager.tensor(values[0] if len(values) == 1 else list(values), requires_grad=True)


def test_freed_graph() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match=SECOND_PASS):
        y.backward()
    z = x * x
    z.backward(retain_graph=True)
    z.backward()
    assert x.grad.item() == 12.0


def test_rules_that_read_no_array_work_on_a_freed_graph() -> None:
    """As in PyTorch: the rules of a sum and of adding a number need nothing that was freed."""
    x = leaf(1.0, 2.0)
    y = (x + 2).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_non_scalar_needs_a_gradient() -> None:
    y = leaf(1.0, 2.0) * 2
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        y.backward()
    with pytest.raises(RuntimeError, match=r"Mismatch in shape: grad_output\[0\] has a shape of torch.Size\(\[3\]\)"):
        y.backward(eager.ones(3))


def test_tensor_that_was_not_recorded() -> None:
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"):
        eager.tensor(1.0).backward()


@pytest.mark.parametrize(
    "make", [lambda: eager.tensor(1, requires_grad=True), lambda: eager.arange(3).requires_grad_()]
)
def test_integers_cannot_require_grad(make: Any) -> None:
    with pytest.raises(RuntimeError, match="Only Tensors of floating point and complex dtype can require gradients"):
        make()


def test_leaf_cannot_change_in_place_while_recording() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match=LEAF):
        x += 1
    with pytest.raises(RuntimeError, match=LEAF):
        x.zero_()
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        x[0] = 5.0
    assert x.tolist() == [1.0, 2.0]
    with eager.no_grad():
        x += 1
        x[0] = 7.0
    assert (x.tolist(), x.is_leaf, x.requires_grad) == ([7.0, 3.0], True, True)


def test_change_in_place_of_what_a_rule_reads() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y * y
    y += 1
    with pytest.raises(RuntimeError, match=MODIFIED):
        z.sum().backward()
    with eager.no_grad():
        w = leaf(1.0, 2.0)
        z = eager.enable_grad()(lambda: w * w)()
        w.mul_(3)
    with pytest.raises(RuntimeError, match=MODIFIED):
        z.sum().backward()


def test_change_in_place_of_a_result_that_a_rule_reads() -> None:
    x = leaf(1.0, 2.0)
    y = x.exp()
    y.mul_(2)
    with pytest.raises(RuntimeError, match=MODIFIED):
        y.sum().backward()


def test_change_in_place_of_what_no_rule_reads() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    z = y + 1
    y += 1
    (z + y).sum().backward()
    assert x.grad.tolist() == [4.0, 4.0]


def test_recorded_change_in_place_has_a_gradient() -> None:
    x, w = leaf(1.0, 2.0, 3.0), leaf(5.0)
    y = x * 1
    y[1] = w
    y.add_(x)
    y.sum().backward()
    assert y.tolist() == [2.0, 7.0, 6.0]
    assert (x.grad.tolist(), w.grad.item()) == ([2.0, 1.0, 2.0], 1.0)


def test_mask_assignment_has_a_gradient() -> None:
    x = leaf(-1.0, 2.0, -3.0)
    y = x * x
    y[x < 0] = 0
    y.sum().backward()
    assert (y.tolist(), x.grad.tolist()) == ([0.0, 4.0, 0.0], [0.0, 4.0, 0.0])


def test_elements_replaced_by_constants_have_no_gradient() -> None:
    x = leaf(1.0, 2.0)
    for replace in (lambda y: y.zero_(), lambda y: y.fill_(3.0), lambda y: y.copy_(eager.ones(2))):
        y = x * 2
        replace(y)
        (y + x).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_view_of_a_changed_tensor_is_taken_again() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    view = y.view(2, 1)
    y.mul_(3)
    assert view.tolist() == [[3.0], [6.0]]
    with pytest.raises(RuntimeError, match="take the view again"):
        view * 2
    (y.view(2, 1) * 2).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_view_cannot_change_in_place_while_recording() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="a view of a Variable that requires grad"):
        (x * 1).view(2, 1).add_(1)
    base = eager.zeros(2)
    with pytest.raises(RuntimeError, match="a view cannot be changed in place"):
        base.view(2, 1).add_(x.view(2, 1))
    assert base.tolist() == [0.0, 0.0]


def test_views_share_memory() -> None:
    x = eager.zeros(2, 3)
    x.view(3, 2)[0, 1] = 5
    x[1].fill_(7)
    assert x.tolist() == [[0.0, 5.0, 0.0], [7.0, 7.0, 7.0]]
    array = np.zeros(2)
    shared = eager.from_numpy(array)
    shared.add_(1)
    array += 1
    assert shared.tolist() == shared.numpy().tolist() == [2.0, 2.0]
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        eager.zeros(1).expand(3).add_(1)


def test_detached_tensor_shares_memory_and_its_changes_are_noticed() -> None:
    x = leaf(1.0, 2.0)
    y = x * x
    x.detach().mul_(2)
    with pytest.raises(RuntimeError, match=MODIFIED):
        y.sum().backward()
    assert x.tolist() == [2.0, 4.0]


def test_gradients_do_not_share_memory() -> None:
    x, y = leaf(1.0), leaf(2.0)
    seed = eager.tensor(1.0)
    (x + y).backward(seed)
    x.grad.zero_()
    assert (x.grad.item(), y.grad.item(), seed.item()) == (0.0, 1.0, 1.0)


def test_hooks() -> None:
    x = leaf(3.0)
    seen: list[float] = []
    y = x * 2
    handle = y.register_hook(lambda g: seen.append(g.item()))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    (y * y).backward()
    assert (seen, x.grad.item()) == ([12.0], 241.0)
    handle.remove()
    (x * 1).backward()
    assert (seen, x.grad.item()) == ([12.0], 243.0)
    with pytest.raises(RuntimeError, match="cannot register a hook"):
        eager.ones(1).register_hook(print)


def test_hooks_stay_when_nobody_keeps_their_handles() -> None:
    x = leaf(3.0)
    y = x * 2
    for tensor, factor in ((y, 2), (y, 5), (x, 3), (x, 7)):
        tensor.register_hook(lambda g, factor=factor: g * factor)
    y.backward()
    assert x.grad.item() == 2 * 2 * 5 * 3 * 7


def test_retained_gradients() -> None:
    x = leaf(2.0)
    y = x * 3
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert y.grad is None
    y.retain_grad()
    (y * y).backward()
    assert (y.grad.item(), x.grad.item()) == (12.0, 36.0)
    with pytest.raises(RuntimeError, match="can't retain_grad on Tensor that has requires_grad=False"):
        eager.ones(1).retain_grad()


def test_grad_leaves_other_leaves_alone() -> None:
    x, w = leaf(2.0), leaf(3.0)
    y = x * w
    z = y * y
    assert [g.item() for g in autograd.grad(z, [x, y])] == [36.0, 12.0]
    assert x.grad is None
    assert w.grad is None
    unrelated = leaf(1.0)
    with pytest.raises(RuntimeError, match="index 1 appears to not have been used in the graph"):
        autograd.grad(x * w, [x, unrelated])
    assert autograd.grad(x * w, [unrelated], allow_unused=True) == (None,)
    assert autograd.grad(x * w, [unrelated], materialize_grads=True)[0].item() == 0.0
    with pytest.raises(RuntimeError, match="One of the differentiated Tensors does not require grad"):
        autograd.grad(x * w, [eager.ones(1)])


def test_backward_into_chosen_leaves() -> None:
    x, w = leaf(2.0), leaf(3.0)
    (x * w).backward(inputs=[w])
    assert (x.grad, w.grad.item()) == (None, 2.0)


def test_third_derivative() -> None:
    x = leaf(0.5)
    value = x.sin()
    for _ in range(2):
        (value,) = autograd.grad(value, x, create_graph=True)
    (third,) = autograd.grad(value, x)
    assert third.item() == pytest.approx(-np.cos(0.5), rel=1e-6)
    assert not third.requires_grad


def test_gradient_of_a_step_is_zero() -> None:
    x = leaf(1.5, -0.5)
    (x.floor() + x.sign()).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0]


def test_branch_not_taken_does_no_harm() -> None:
    """The gradient of where(x > 0, sqrt(x), 0) at 0 and below is 0, to second order, where PyTorch gives NaN."""
    x = leaf(-1.0, 0.0, 4.0)
    y = eager.where(x > 0, x.sqrt(), 0.0).sum()
    (first,) = autograd.grad(y, x, create_graph=True)
    (second,) = autograd.grad(first.sum(), x)
    assert first.tolist() == [0.0, 0.0, 0.25]
    assert second.tolist() == [0.0, 0.0, -1 / 32]


def test_modes() -> None:
    x = leaf(1.0)

    @eager.no_grad()
    def silent() -> Any:
        return x * 2

    @eager.no_grad
    def bare() -> Any:
        return x * 2

    assert not silent().requires_grad
    assert not bare().requires_grad
    with eager.no_grad():
        assert not eager.is_grad_enabled()
        with eager.enable_grad():
            assert (x * 2).requires_grad
        assert not eager.is_grad_enabled()
    with pytest.raises(ValueError, match="stop"), eager.no_grad():
        raise ValueError("stop")
    assert eager.is_grad_enabled()


def test_leaves_and_flags() -> None:
    x = leaf(1.0)
    y = x * 2
    assert (x.is_leaf, y.is_leaf, x.grad_fn, y.requires_grad) == (True, False, None, True)
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        y.requires_grad_(False)
    with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\) instead"):
        y.numpy()
    with pytest.raises(RuntimeError, match="attempting to assign a gradient of size"):
        x.grad = eager.ones(3)
    function, position = y.grad_fn.next_functions[0]
    assert (function.name(), position, function.variable is x) == ("AccumulateGrad", 0, True)
    assert y.grad_fn.next_functions[1] == (None, 0)


def test_long_chain() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1
    y.backward()
    assert x.grad.item() == 1.0
    del y


def test_tape_is_given_back_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = x.exp()
        node = weakref.ref(y.grad_fn)
        (y * y).sum().backward()
        del y
        assert node() is None
    finally:
        gc.enable()


class Cube(autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * 3 * x**2


class Exponential(autograd.Function):
    """Keeps its own result."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        result = x.exp()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (result,) = ctx.saved_tensors
        return g * result


class SplitAndScale(autograd.Function):
    """Returns two tensors, and takes a number."""

    @staticmethod
    def forward(ctx: Any, x: Any, factor: float) -> Any:
        ctx.factor = factor
        return x * factor, x + 1

    @staticmethod
    def backward(ctx: Any, first: Any, second: Any) -> Any:
        return first * ctx.factor + second, None


@pytest.mark.parametrize(("function", "derivatives"), [(Cube, [12.0, 12.0, 6.0]), (Exponential, [np.exp(2)] * 3)])
def test_own_function_to_third_order(function: Any, derivatives: list[float]) -> None:
    x = eager.tensor(2.0, dtype="float64", requires_grad=True)
    value = function.apply(x)
    assert str(value.grad_fn).startswith(f"<torch.autograd.function.{function.__name__}Backward object at 0x")
    for expected in derivatives:
        (value,) = autograd.grad(value, x, create_graph=True)
        assert value.item() == pytest.approx(expected)


def test_own_function_with_two_results() -> None:
    x = leaf(1.0, 2.0)
    scaled, shifted = SplitAndScale.apply(x, 3.0)
    scaled.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [3.0, 3.0]
    (scaled * shifted).sum().backward()
    assert x.grad.tolist() == [3.0 + 3 * 2 + 3, 3.0 + 3 * 3 + 6]


def test_own_function_faults() -> None:
    class Wrong(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return ctx.result(g)

    x = leaf(1.0, 2.0)
    for result, message in (
        (lambda g: (g, g), r"returned an incorrect number of gradients \(expected 1, got 2\)"),
        (lambda g: eager.ones(3), r"invalid gradient at index 0 - got \[3\] but expected shape compatible with \[2\]"),
    ):
        y = Wrong.apply(x)
        y.grad_fn.context.result = result
        with pytest.raises(RuntimeError, match=message):
            y.sum().backward()
    z = Cube.apply(x)
    z.sum().backward()
    with pytest.raises(RuntimeError, match=SECOND_PASS):
        z.sum().backward()
    y = x * 1
    z = Cube.apply(y)
    y.add_(1)
    with pytest.raises(RuntimeError, match=MODIFIED):
        z.sum().backward()


def test_own_function_that_returns_its_argument() -> None:
    class Identity(autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 5

    x = leaf(1.0)
    y = Identity.apply(x)
    y.add_(1)
    y.backward()
    assert (x.item(), y.item(), x.grad.item()) == (1.0, 2.0, 5.0)


def test_engines_do_not_mix() -> None:

    with sg.Graph():
        node = sg.placeholder("x", (2,))
    with pytest.raises(TypeError, match="cannot be mixed"):
        sg.add(node, eager.ones(2))
