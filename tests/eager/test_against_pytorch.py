"""The same program through PyTorch: values, gradients, dtypes, names of steps, and what is printed."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from symgraph import eager

torch = pytest.importorskip("torch")

UNARY = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "sqrt",
    "reciprocal",
    "sigmoid",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
    "abs",
    "neg",
    "sign",
    "square",
    "floor",
    "ceil",
    "round",
    "trunc",
    "relu",
    "isnan",
    "isfinite",
    "isinf",
    "logical_not",
]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "maximum",
    "minimum",
    "atan2",
    "hypot",
    "logaddexp",
    "xlogy",
    "remainder",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
]


def both(compute: Callable[..., Any], *arrays: Any, names: bool = True) -> None:
    """Run a program in both engines; compare value, dtype, shape, step names and gradients to second order."""
    found = [_run(engine, compute, arrays) for engine in (eager, torch)]
    (value, *gradients), (expected, *wanted) = ([_array(x) for x in result[0]] for result in found)
    assert value.dtype == expected.dtype
    tolerance = {"rtol": 2e-5, "atol": 1e-6} if value.dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(value, expected, **tolerance)
    for gradient, expectation in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(gradient, expectation, **tolerance)
    if names:
        assert found[0][1] == found[1][1]


def _run(engine: ModuleType, compute: Callable[..., Any], arrays: tuple[Any, ...]) -> tuple[list[Any], str]:
    leaves = [engine.tensor(array) for array in arrays]
    floats = [x.requires_grad_() for x in leaves if x.dtype in (engine.float32, engine.float64)]
    value = compute(engine, *leaves)
    if not value.requires_grad:
        return [value], ""
    name = value.grad_fn.name() if engine is eager else type(value.grad_fn).__name__
    weights = engine.tensor(np.linspace(0.5, 1.5, max(_array(value).size, 1)).reshape(tuple(value.shape))).to(
        value.dtype
    )
    total = (value * weights).sum()
    first = engine.autograd.grad(total, floats, create_graph=True, allow_unused=True)
    found = [x if g is None else g for x, g in zip(floats, first, strict=True)]
    recorded = [g for g in first if g is not None and g.requires_grad]
    if not recorded:
        return [value, *found, *map(engine.zeros_like, floats)], name
    squares = sum((g * g).sum() for g in recorded)
    second = engine.autograd.grad(squares, floats, allow_unused=True, materialize_grads=True)
    return [value, *found, *second], name


def _array(x: Any) -> np.ndarray[Any, Any]:
    return np.asarray(x.detach().numpy(force=True))


def sample(*shape: int, low: float = 0.2, high: float = 0.9, dtype: str = "float64") -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape) + 1).uniform(low, high, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_and_methods(name: str, dtype: str) -> None:
    if name in ("lgamma", "digamma") and dtype == "float32":
        pytest.skip("SciPy and PyTorch round differently")
    array = sample(3, 2, dtype=dtype)
    function = {"erfinv": "erfinv"}.get(name, name)
    both(lambda engine, x: getattr(engine, function)(x), array)
    both(lambda engine, x: getattr(x, name)(), array)


@pytest.mark.parametrize("name", BINARY)
def test_binary_functions_broadcast(name: str) -> None:
    x, y = sample(3, 2), sample(2, low=0.3, high=1.4)
    both(lambda engine, a, b: getattr(engine, name)(a, b), x, y)
    both(lambda engine, a, b: getattr(a, name)(b), x, sample(3, 1))


PROGRAMS: dict[str, Callable[..., Any]] = {
    "plus number": lambda t, x, y: x + 2,
    "number minus": lambda t, x, y: 2 - x,
    "number over": lambda t, x, y: 2 / x,
    "square": lambda t, x, y: x**2,
    "cube root": lambda t, x, y: x ** (1 / 3),
    "power zero": lambda t, x, y: x**0,
    "number to the power": lambda t, x, y: 2**x,
    "tensor to the power": lambda t, x, y: x**y,
    "scaled addition": lambda t, x, y: t.add(x, y, alpha=3),
    "rounded quotient": lambda t, x, y: t.div(x, 0.3, rounding_mode="floor") * x,
    "sum": lambda t, x, y: x.sum(),
    "sum over one": lambda t, x, y: x.sum(1),
    "sum over two": lambda t, x, y: x.sum(dim=(0, 1), keepdim=True),
    "mean": lambda t, x, y: t.mean(x),
    "mean over one": lambda t, x, y: x.mean(dim=0),
    "prod": lambda t, x, y: x.prod(),
    "prod over one": lambda t, x, y: x.prod(1),
    "var": lambda t, x, y: x.var(),
    "var over one": lambda t, x, y: x.var(1, unbiased=False),
    "std": lambda t, x, y: x.std(dim=0, keepdim=True),
    "greatest": lambda t, x, y: x.max(),
    "greatest over one": lambda t, x, y: x.max(dim=1).values,
    "smallest over one": lambda t, x, y: x.min(1, keepdim=True)[0],
    "amax": lambda t, x, y: x.amax(0),
    "greatest of two": lambda t, x, y: t.max(x, y),
    "norm": lambda t, x, y: x.norm(),
    "norm of rows": lambda t, x, y: t.linalg.vector_norm(x, dim=1),
    "logsumexp": lambda t, x, y: x.logsumexp(1),
    "running sum": lambda t, x, y: x.cumsum(1),
    "softmax": lambda t, x, y: x.softmax(1),
    "log softmax": lambda t, x, y: t.log_softmax(x, dim=0),
    "matrix product": lambda t, x, y: x @ y.t(),
    "matrix times vector": lambda t, x, y: t.mv(x, y[0]),
    "dot": lambda t, x, y: t.dot(x[0], y[1]),
    "outer": lambda t, x, y: t.outer(x[0], y[1]),
    "einsum": lambda t, x, y: t.einsum("ij,kj->ik", x, y) * 1,
    "clamp": lambda t, x, y: x.clamp(0.3, 0.7),
    "clamp below": lambda t, x, y: x.clamp(min=0.5),
    "where": lambda t, x, y: t.where(x > 0.5, x, y),
    "where with number": lambda t, x, y: t.where(x > 0.5, x, 0.0),
    "mask": lambda t, x, y: x.masked_fill(x > 0.5, 2.0),
    "view": lambda t, x, y: x.view(-1),
    "reshape": lambda t, x, y: x.reshape(2, -1),
    "flatten": lambda t, x, y: x.t().flatten() * 1,
    "transpose": lambda t, x, y: x.transpose(0, 1),
    "permute": lambda t, x, y: x.permute(1, 0),
    "T": lambda t, x, y: x.T,
    "t": lambda t, x, y: x.t(),
    "unsqueeze": lambda t, x, y: x.unsqueeze(1),
    "squeeze": lambda t, x, y: x.unsqueeze(1).squeeze(1),
    "expand": lambda t, x, y: x.expand(2, 3, 4),
    "repeat": lambda t, x, y: x.repeat(2, 1),
    "cat": lambda t, x, y: t.cat([x, y], dim=1),
    "stack": lambda t, x, y: t.stack([x, y], 1),
    "chunks": lambda t, x, y: x.chunk(2, dim=1)[1] * 1,
    "flip": lambda t, x, y: t.flip(x, (0, 1)),
    "roll": lambda t, x, y: t.roll(x, 1, 0),
    "row": lambda t, x, y: x[1],
    "last column": lambda t, x, y: x[:, -1],
    "element": lambda t, x, y: x[1, 2],
    "slice": lambda t, x, y: x[1:, ::2],
    "new axis": lambda t, x, y: x[..., None],
    "chosen rows": lambda t, x, y: x[[2, 0, 2]],
    "chosen elements": lambda t, x, y: x[[0, 1], [2, 3]],
    "masked elements": lambda t, x, y: x[x > 0.5],
    "gather": lambda t, x, y: t.gather(x, 1, t.tensor([[0, 3], [1, 1], [2, 0]])),
    "index select": lambda t, x, y: x.index_select(1, t.tensor([3, 0])),
    "tril": lambda t, x, y: t.tril(x),
    "triu": lambda t, x, y: x.triu(1),
    "trace": lambda t, x, y: x[:, :3].trace(),
    "clone": lambda t, x, y: x.clone(),
    "detached": lambda t, x, y: x * x.detach(),
    "float32": lambda t, x, y: x.to(t.float32),
    "addmm": lambda t, x, y: t.addmm(y[:, :3], x, y.t(), beta=2),
    "determinant": lambda t, x, y: t.linalg.det(x[:, :3] + 2 * t.eye(3, dtype=t.float64)) * 1,
    "inverse": lambda t, x, y: t.linalg.inv(x[:, :3] + 2 * t.eye(3, dtype=t.float64)) * 1,
    "solve": lambda t, x, y: t.linalg.solve(x[:, :3] + 2 * t.eye(3, dtype=t.float64), y) * 1,
    "mean squared error": lambda t, x, y: t.nn.functional.mse_loss(x, y),
    "cross entropy": lambda t, x, y: t.nn.functional.cross_entropy(x, t.tensor([0, 3, 1])),
    "cross entropy of probabilities": lambda t, x, y: t.nn.functional.cross_entropy(x, y.softmax(1)),
    "yes or no": lambda t, x, y: t.nn.functional.binary_cross_entropy_with_logits(x, y),
    "yes or no of probabilities": lambda t, x, y: t.nn.functional.binary_cross_entropy(x, y.detach()),
    "linear": lambda t, x, y: t.nn.functional.linear(x, y, y[:, 0]),
    "gelu": lambda t, x, y: t.nn.functional.gelu(x),
    "silu": lambda t, x, y: t.nn.functional.silu(x),
    "elu": lambda t, x, y: t.nn.functional.elu(x - 0.5),
    "softplus": lambda t, x, y: t.nn.functional.softplus(x),
    "leaky relu": lambda t, x, y: t.nn.functional.leaky_relu(x - 0.5, 0.1),
    "assigned": lambda t, x, y: _assigned(x, y),
    "changed in place": lambda t, x, y: (x * 1).mul_(y).add_(1),
}
UNNAMED = {
    "new axis": "several operations here",
    "slice": "PyTorch names the last of several slices",
    "gelu": "", "silu": "",
}  # fmt: skip


def _assigned(x: Any, y: Any) -> Any:
    result = x * 1
    result[1:, 0] = y[0, :2]
    result[0] = 3.0
    return result


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    both(PROGRAMS[name], sample(3, 4), sample(4, 3).reshape(3, 4), names=name not in UNNAMED)


def test_random_programs() -> None:
    """Chains of operations chosen at random, with reuse, broadcasting and reductions."""
    for seed in range(40):
        program = functools.partial(_random_program, seed)
        both(lambda engine, *leaves, program=program: program(leaves), sample(2, 3), sample(3), sample(1))


_STEPS: list[tuple[int, Callable[..., Any]]] = [
    (1, lambda x: x.sin()),
    (1, lambda x: x.tanh()),
    (1, lambda x: x.exp()),
    (1, lambda x: (x * x + 1).log()),
    (1, lambda x: -x),
    (1, lambda x: x.sigmoid()),
    (1, lambda x: x.sum(0, keepdim=True)),
    (1, lambda x: x.mean(-1, keepdim=True)),
    (1, lambda x: x.relu()),
    (1, lambda x: x**3),
    (2, lambda x, y: x + y),
    (2, lambda x, y: x * y),
    (2, lambda x, y: x - 2 * y),
    (2, lambda x, y: x / (y * y + 1)),
]


def _random_program(seed: int, leaves: tuple[Any, ...]) -> Any:
    rng = np.random.default_rng(seed)
    values = list(leaves)
    for _ in range(12):
        arity, step = _STEPS[rng.integers(0, len(_STEPS))]
        made = step(*[values[i] for i in rng.integers(0, len(values), arity)])
        values.append(made.tanh())
    total = values[0].sum()
    for value in values[1:]:
        total = total + value.sum()
    return total


def test_promotion() -> None:
    samples: list[Callable[[ModuleType], Any]] = [
        lambda t, d=dtype, s=shape: t.ones(s, dtype=getattr(t, d))
        for dtype in ("bool", "uint8", "int32", "int64", "float32", "float64")
        for shape in ((), (2,))
    ]
    samples += [lambda t, v=value: v for value in (True, 3, 2.5)]
    checked = 0
    for first, second in itertools.product(samples, samples):
        for compute in (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a / b):
            left, right = first(torch), second(torch)
            if not (isinstance(left, torch.Tensor) or isinstance(right, torch.Tensor)):
                continue
            ours, theirs = compute(first(eager), second(eager)), compute(left, right)
            assert (ours.dtype.name, ours.tolist()) == (str(theirs.dtype).removeprefix("torch."), theirs.tolist())
            checked += 1
    assert checked == 3 * (15 * 15 - 9)


@pytest.mark.parametrize("function", ["sin", "exp", "sigmoid", "sqrt"])
def test_integers_become_float32(function: str) -> None:
    both(lambda engine, x: getattr(engine, function)(x), np.array([1, 2, 3]))


MADE: dict[str, Callable[[ModuleType], Any]] = {
    "integer": lambda t: t.tensor(3),
    "float": lambda t: t.tensor(3.0),
    "booleans": lambda t: t.tensor([True, False]),
    "mixed list": lambda t: t.tensor([[1, 2.5]]),
    "NumPy scalar": lambda t: t.tensor(np.float64(1.5)),
    "NumPy array": lambda t: t.tensor(np.arange(3, dtype="int32")),
    "nothing": lambda t: t.tensor([]),
    "list of tensors": lambda t: t.tensor([t.tensor(1.0), t.tensor(2.0)]),
    "dtype": lambda t: t.tensor([1, 2], dtype=t.float64),
    "zeros": lambda t: t.zeros(2, 3),
    "integer zeros": lambda t: t.zeros((2, 3), dtype=t.int64),
    "one": lambda t: t.ones(()),
    "full of integers": lambda t: t.full((2,), 7),
    "full of floats": lambda t: t.full((2,), 0.5),
    "arange": lambda t: t.arange(5),
    "arange of floats": lambda t: t.arange(1, 2, 0.25),
    "linspace": lambda t: t.linspace(0, 1, 4),
    "eye": lambda t: t.eye(2, 3),
    "ones like": lambda t: t.ones_like(t.zeros(2)),
    "zeros like": lambda t: t.zeros_like(t.arange(3)),
    "as tensor": lambda t: t.as_tensor([1.0]),
    "from numpy": lambda t: t.from_numpy(np.ones(2)),
    "long": lambda t: t.tensor(1.5).long(),
    "float of integers": lambda t: t.arange(3).float(),
    "double": lambda t: t.arange(3).double() / 3,
    "one-hot": lambda t: t.nn.functional.one_hot(t.tensor([0, 2]), 3),
    "argmax": lambda t: t.tensor([3, 1, 2]).argmax(),
    "argmax of rows": lambda t: t.tensor([[3.0, 1.0]]).argmax(dim=1, keepdim=True),
    "sum of integers": lambda t: t.tensor([1, 2, 3]).sum(),
    "sum of booleans": lambda t: t.tensor([True, True]).sum(),
    "equality": lambda t: t.tensor([1, 2]) == t.tensor([1, 3]),
    "not": lambda t: ~t.tensor([True]),
    "masked": lambda t: t.tensor([1, 2, 3])[t.tensor([True, False, True])],
    "floor division": lambda t: t.tensor([5, 3]) // 2,
    "remainder of a number": lambda t: 7 % t.tensor([4]),
    "NumPy scalar times tensor": lambda t: t.ones(2) * np.float64(2),
    "shape": lambda t: (t.ones(2, 3).shape, t.ones(2, 3).size(1), t.ones(2, 3).numel(), t.ones(2, 3).dim()),
}


@pytest.mark.parametrize("name", MADE)
def test_made_tensors(name: str) -> None:
    assert repr(MADE[name](eager)) == repr(MADE[name](torch))


def test_printing() -> None:
    rng = np.random.default_rng(0)
    for trial in range(600):
        shape = tuple(rng.integers(0 if trial % 17 == 0 else 1, rng.choice([3, 7, 30]), rng.integers(0, 4)))
        if trial % 40 == 0:
            shape = tuple(rng.integers(1, 40, rng.integers(1, 5)))
        array = np.asarray(_printed_sample(rng, trial % 9, shape))
        if array.dtype == np.float64 and trial % 2:
            array = array.astype(np.float32)
        assert repr(eager.from_numpy(array)) == repr(torch.from_numpy(array))
    for values in ([1.0] * 18, [1.0] * 3, 2.0):
        shown = []
        for engine in (eager, torch):
            x = engine.tensor(values, dtype=engine.float64, requires_grad=True)
            shown.append(
                [repr(x), repr(x * 2), str(x.detach()), repr(engine.nn.Parameter(x.detach())), f"{x.sum():.3f}"]
            )
        assert shown[0] == shown[1]


def _printed_sample(rng: np.random.Generator, kind: int, shape: tuple[int, ...]) -> Any:
    normal = rng.standard_normal(shape)
    scaled = normal * 10.0 ** rng.integers(-8, 10)
    return (
        scaled, np.round(scaled), rng.integers(-100, 100, shape), rng.integers(0, 2, shape).astype(bool),
        np.where(rng.random(shape) < 0.2, np.nan, scaled),
        np.where(rng.random(shape) < 0.3, rng.choice([np.inf, -np.inf], shape), np.round(normal * 10)),
        np.round(normal * 3), normal, np.where(rng.random(shape) < 0.5, 0, normal),
    )[kind]  # fmt: skip


def _twice(t: ModuleType) -> None:
    x = t.ones(1, requires_grad=True)
    y = x * x
    y.backward()
    y.backward()


ERRORS: dict[str, Callable[[ModuleType], Any]] = {
    "second pass": _twice,
    "not a scalar": lambda t: (t.ones(2, requires_grad=True) * 2).backward(),
    "not recorded": lambda t: t.ones(1).backward(),
    "integer leaf": lambda t: t.tensor(1, requires_grad=True),
    "leaf in place": lambda t: t.ones(2, requires_grad=True).add_(1),
    "view of a leaf in place": lambda t: t.ones(2, requires_grad=True).__setitem__(0, 1.0),
    "wrong gradient": lambda t: (t.ones(2, requires_grad=True) * 2).backward(t.ones(3)),
    "several elements": lambda t: t.ones(2).item(),
    "truth of several": lambda t: bool(t.ones(2)),
    "array of a leaf": lambda t: t.ones(2, requires_grad=True).numpy(),
    "flag of a result": lambda t: (t.ones(2, requires_grad=True) * 2).requires_grad_(False),
    "unused": lambda t: t.autograd.grad(t.ones(1, requires_grad=True) * 2, t.ones(1, requires_grad=True)),
    "no grad required": lambda t: t.autograd.grad(t.ones(1, requires_grad=True) * 2, t.ones(1)),
    "wrong shape of grad": lambda t: setattr(t.ones(2, requires_grad=True), "grad", t.ones(3)),
    "matrices": lambda t: t.ones(2, 2) @ t.ones(3, 2),
    "vectors": lambda t: t.dot(t.ones(2), t.ones(3)),
    "shape": lambda t: t.ones(4).view(3, 2),
    "mean of integers": lambda t: t.arange(3).mean(),
    "retained constant": lambda t: t.ones(1).retain_grad(),
    "float into integers": lambda t: t.arange(3).add_(0.5),
    "no axis to count": lambda t: len(t.tensor(1.0)),
    "state that does not fit": lambda t: t.nn.Linear(1, 1).load_state_dict({"weight": t.ones(1, 1)}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    caught = []
    for engine in (eager, torch):
        with pytest.raises((RuntimeError, TypeError)) as error:
            ERRORS[name](engine)
        caught.append(error.value)
    assert str(caught[0]) == str(caught[1])
    assert isinstance(caught[0], type(caught[1]))


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1},
    "SGD momentum": {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01},
    "SGD nesterov": {"lr": 0.1, "momentum": 0.8, "nesterov": True},
    "Adam": {"lr": 0.05},
    "Adam amsgrad": {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True},
    "AdamW": {"lr": 0.05, "weight_decay": 0.1},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_a_network(name: str) -> None:
    """Ten steps from the same weights give the same losses and weights."""
    rng = np.random.default_rng(0)
    features, classes = rng.standard_normal((12, 5)), rng.integers(0, 3, 12)
    weights = [rng.standard_normal(shape) * 0.5 for shape in ((4, 5), (4,), (3, 4), (3,))]
    finished = []
    for t in (eager, torch):
        model = t.nn.Sequential(t.nn.Linear(5, 4), t.nn.ReLU(), t.nn.Linear(4, 3)).double()
        model.load_state_dict(
            dict(zip(("0.weight", "0.bias", "2.weight", "2.bias"), map(t.tensor, weights), strict=True))
        )
        optimizer = getattr(t.optim, name.split(maxsplit=1)[0])(model.parameters(), **OPTIMIZERS[name])
        criterion = t.nn.CrossEntropyLoss()
        losses = []
        for _ in range(10):
            loss = criterion(model(t.tensor(features)), t.tensor(classes))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        finished.append(
            (losses, [p.detach().numpy() for p in model.parameters()], repr(model), list(model.state_dict()))
        )
    np.testing.assert_allclose(finished[0][0], finished[1][0], rtol=1e-9)
    for ours, theirs in zip(finished[0][1], finished[1][1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-12)
    assert finished[0][2:] == finished[1][2:]
