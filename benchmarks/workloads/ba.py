"""ADBench's bundle adjustment: each observation's reprojection error, and its 2 × 15 block of the Jacobian.

The results are the residual (n, 2), then for each of its two components the derivatives with respect to the camera
(n, 11), the point (n, 3) and the weight (n). An observation's residual depends on its own camera, point and weight
only, so the derivative of the sum over all observations of one component has every block's row in it.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

import symgraph as sg
from benchmarks.suite import peers
from benchmarks.suite.contest import Array, Case, Model, Problem, Run, Workload
from symgraph.compile.kernels import cos, sin

TILE = 64  # observations to a tile of the limit


def data(n: int) -> dict[str, Array]:
    """Return cameras that look at points, away from the zero rotation, where the angle has no derivative."""
    rng = np.random.default_rng(0)
    return {
        "camera": rng.normal(size=(n, 11)) * 0.1 + np.array([0.1, 0.2, 0.3, 0, 0, -5, 1, 0, 0, 0, 0]),
        "point": rng.normal(size=(n, 3)),
        "weight": np.ones(n),
        "feature": rng.normal(size=(n, 2)),
    }


def model(n: int) -> Model:
    """Return the graph."""
    with sg.Graph():
        camera, point = sg.placeholder("camera", ("n", 11)), sg.placeholder("point", ("n", 3))
        weight, feature = sg.placeholder("weight", ("n",)), sg.placeholder("feature", ("n", 2))
    residual = _residual(sg, camera, point, weight, feature)
    parameters = [camera, point, weight]
    rows = [sg.gradients(sg.sum(residual[:, i]), parameters) for i in range(2)]
    return Model([*parameters, feature], sg.sum(residual), parameters, [residual, *rows])


def _residual(library: Any, camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    """Return the residuals of all observations; `library` has NumPy's names."""
    rotation, centre = camera[:, :3], camera[:, 3:6]
    focal, principal, radial = camera[:, 6], camera[:, 7:9], camera[:, 9:]
    moved = point - centre
    angle = library.sqrt(library.sum(rotation**2, axis=1))
    axis = rotation / angle[:, None]
    cross = library.stack(
        [axis[:, (i + 1) % 3] * moved[:, (i + 2) % 3] - axis[:, (i + 2) % 3] * moved[:, (i + 1) % 3] for i in range(3)],
        1,
    )
    cosine = library.cos(angle)
    along = library.sum(axis * moved, axis=1) * (1 - cosine)
    turned = moved * cosine[:, None] + cross * library.sin(angle)[:, None] + axis * along[:, None]
    flat = turned[:, :2] / turned[:, 2][:, None]
    squared = library.sum(flat**2, axis=1)
    distortion = 1 + radial[:, 0] * squared + radial[:, 1] * squared**2
    return weight[:, None] * (flat * (distortion * focal)[:, None] + principal - feature)


def _columns(library: Any, camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    """Return the two components of the residual, from lists of columns: what is fastest in JAX by far."""
    moved = [point[i] - camera[3 + i] for i in range(3)]
    angle = library.sqrt(camera[0] ** 2 + camera[1] ** 2 + camera[2] ** 2)
    axis, cosine, sine = [camera[i] / angle for i in range(3)], library.cos(angle), library.sin(angle)
    along = (axis[0] * moved[0] + axis[1] * moved[1] + axis[2] * moved[2]) * (1 - cosine)
    cross = [axis[i - 2] * moved[i - 1] - axis[i - 1] * moved[i - 2] for i in range(3)]
    turned = [moved[i] * cosine + cross[i] * sine + axis[i] * along for i in range(3)]
    flat = turned[0] / turned[2], turned[1] / turned[2]
    squared = flat[0] ** 2 + flat[1] ** 2
    scale = (1 + camera[9] * squared + camera[10] * squared**2) * camera[6]
    return [weight * (flat[i] * scale + camera[7 + i] - feature[i]) for i in range(2)]


def _split(*arrays: Any) -> list[Any]:
    """Return the columns of each array; a column stays what it is."""
    return [[array[:, i] for i in range(array.shape[1])] if array.ndim == 2 else array for array in arrays]


def jax_blocks(jax: Any, camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    """Return all results for JAX.

    This is its fastest form of six: `vmap` of `jacrev` or of `jacfwd` of one observation, arrays instead of columns
    and gradients of sums all took longer.
    """
    np = jax.numpy
    *parameters, features = _split(camera, point, weight, feature)
    columns, pull = jax.vjp(lambda *arguments: _columns(np, *arguments, features), *parameters)
    results = [np.stack(columns, 1)]
    for i in range(2):
        by_camera, by_point, by_weight = pull([np.full_like(columns[j], float(i == j)) for j in range(2)])
        results += [np.stack(by_camera, 1), np.stack(by_point, 1), by_weight]
    return results


def tensor_blocks(torch: Any, camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    """Return all results for PyTorch and symgraph's dynamic engine."""
    parameters = [camera.requires_grad_(), point.requires_grad_(), weight.requires_grad_()]
    columns = _columns(torch, *_split(*parameters, feature))
    rows = [torch.autograd.grad(column.sum(), parameters, retain_graph=True) for column in columns]
    return [torch.stack(columns, 1).detach(), *rows]


def pytensor_blocks(tensor: Any, camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    """Return all results for PyTensor."""
    parameters = [camera, point, weight]
    points, features = [point[:, i] for i in range(3)], [feature[:, i] for i in range(2)]
    columns = _columns(tensor, [camera[:, i] for i in range(11)], points, weight, features)
    rows = [tensor.grad(column.sum(), parameters) for column in columns]
    return [tensor.stack(columns, axis=1), *rows[0], *rows[1]]


def autograd_blocks(autograd: Any, camera: Any, point: Any, weight: Any, feature: Any) -> Any:
    """Return all results for autograd."""
    np = autograd.numpy

    def columns(*parameters: Any) -> Any:
        return _columns(np, *_split(*parameters, feature))

    parameters = camera, point, weight
    pulls = [autograd.make_vjp(lambda arguments, i=i: columns(*arguments)[i])(parameters) for i in range(2)]
    return [np.stack([value for _, value in pulls], 1), *(list(pull(np.ones(len(camera)))) for pull, _ in pulls)]


def casadi(problem: Problem) -> Run:
    """Return CasADi's run: one observation's graph of scalars, mapped over the columns of transposed arrays."""
    n = len(problem.data["point"])

    def blocks(library: Any, camera: Any, point: Any, weight: Any, feature: Any) -> Any:
        own = [library.SX.sym(name, size) for name, size in zip("cpwf", (11, 3, 1, 2), strict=True)]
        columns = _columns(library, *own)
        rows = [library.gradient(column, parameter) for column in columns for parameter in own[:3]]
        one = library.Function("one", own, [library.densify(x) for x in (library.vertcat(*columns), *rows)])
        return one.map(n)(camera, point, weight, feature)

    shapes = [(2, n), *[(11, n), (3, n), (1, n)] * 2]
    run = peers.casadi_function(
        blocks,
        lambda problem: shapes,
        prepare=lambda problem: [array.reshape(n, -1).T for array in problem.arrays],
    )(problem)
    return Run(run.function, run.arguments, lambda results: [np.squeeze(array.T) for array in run.read(results)])


def limit(problem: Problem) -> Run:
    """Return tiles of observations, transposed on the way in and out so that an operation works on whole vectors.

    A row of a block follows from how its component changes with the turned point: R moves that back to the point,
    and the derivatives with respect to the axis and the angle give those with respect to the rotation.
    """
    n, threads = len(problem.data["point"]), problem.threads
    shapes: list[tuple[int, ...]] = [(n, 2), *[(n, 11), (n, 3), (n,)] * 2]

    def call(camera: Array, point: Array, weight: Array, feature: Array) -> Any:
        # One block, and views of it: the system hands out one large piece of memory sooner than seven.
        block, results, start = np.empty(32 * n), [], 0
        for shape in shapes:
            results.append(block[start : start + math.prod(shape)].reshape(shape))
            start += math.prod(shape)
        _run(camera, point, weight, feature, threads, *results)
        return results

    return Run(call, problem.arrays)


@numba.njit(parallel=True)
def _run(
    camera: Array, point: Array, weight: Array, feature: Array, threads: int, residual: Array,
    camera0: Array, point0: Array, weight0: Array, camera1: Array, point1: Array, weight1: Array,
) -> None:  # fmt: skip
    n = len(camera)
    tiles = (n + TILE - 1) // TILE
    for t in numba.prange(threads):
        _chunk(
            camera, point, weight, feature, t * tiles // threads * TILE, min(n, (t + 1) * tiles // threads * TILE),
            residual, camera0, point0, weight0, camera1, point1, weight1,
        )  # fmt: skip


@numba.njit(fastmath={"reassoc", "contract"}, error_model="numpy")
def _chunk(
    camera: Array, point: Array, weight: Array, feature: Array, first: int, last: int, residual: Array,
    camera0: Array, point0: Array, weight0: Array, camera1: Array, point1: Array, weight1: Array,
) -> None:  # fmt: skip
    c, p, w, f = np.ones((11, TILE)), np.ones((3, TILE)), np.ones(TILE), np.ones((2, TILE))
    r, rows = np.empty((2, TILE)), np.empty((2, 15, TILE))
    for start in range(first, last, TILE):
        size = min(TILE, last - start)
        for t in range(size):
            for i in range(11):
                c[i, t] = camera[start + t, i]
            for i in range(3):
                p[i, t] = point[start + t, i]
            w[t] = weight[start + t]
            f[0, t], f[1, t] = feature[start + t, 0], feature[start + t, 1]
        for t in range(TILE):
            m0, m1, m2 = p[0, t] - c[3, t], p[1, t] - c[4, t], p[2, t] - c[5, t]
            angle = math.sqrt(c[0, t] * c[0, t] + c[1, t] * c[1, t] + c[2, t] * c[2, t])
            inverse = 1.0 / angle
            u0, u1, u2 = c[0, t] * inverse, c[1, t] * inverse, c[2, t] * inverse
            cosine, sine = cos(angle), sin(angle)
            rest = 1.0 - cosine
            dot = u0 * m0 + u1 * m1 + u2 * m2
            x0, x1, x2 = u1 * m2 - u2 * m1, u2 * m0 - u0 * m2, u0 * m1 - u1 * m0
            along = dot * rest
            turned0 = m0 * cosine + x0 * sine + u0 * along
            turned1 = m1 * cosine + x1 * sine + u1 * along
            depth = 1.0 / (m2 * cosine + x2 * sine + u2 * along)
            flat0, flat1 = turned0 * depth, turned1 * depth
            squared = flat0 * flat0 + flat1 * flat1
            distortion = 1.0 + squared * (c[9, t] + c[10, t] * squared)
            focal = c[6, t]
            error0 = flat0 * distortion * focal + c[7, t] - f[0, t]
            error1 = flat1 * distortion * focal + c[8, t] - f[1, t]
            r[0, t], r[1, t] = w[t] * error0, w[t] * error1
            scale = w[t] * focal
            bend = 2.0 * scale * (c[9, t] + 2.0 * c[10, t] * squared)
            stretch = scale * distortion
            cross = bend * flat0 * flat1 * depth
            for i in range(2):
                flat = flat0 if i == 0 else flat1
                # g: how the component changes with the turned point.
                g0 = (stretch + bend * flat0 * flat0) * depth if i == 0 else cross
                g1 = cross if i == 0 else (stretch + bend * flat1 * flat1) * depth
                g2 = -(g0 * flat0 + g1 * flat1)
                g_u, g_m = g0 * u0 + g1 * u1 + g2 * u2, g0 * m0 + g1 * m1 + g2 * m2
                back = g_u * rest
                b0 = g0 * cosine + (g1 * u2 - g2 * u1) * sine + u0 * back
                b1 = g1 * cosine + (g2 * u0 - g0 * u2) * sine + u1 * back
                b2 = g2 * cosine + (g0 * u1 - g1 * u0) * sine + u2 * back
                by_angle = cosine * (g0 * x0 + g1 * x1 + g2 * x2) + sine * (g_u * dot - g_m)
                a0 = sine * (m1 * g2 - m2 * g1) + rest * (g0 * dot + m0 * g_u)
                a1 = sine * (m2 * g0 - m0 * g2) + rest * (g1 * dot + m1 * g_u)
                a2 = sine * (m0 * g1 - m1 * g0) + rest * (g2 * dot + m2 * g_u)
                radial = by_angle - inverse * (a0 * u0 + a1 * u1 + a2 * u2)
                rows[i, 0, t] = a0 * inverse + u0 * radial
                rows[i, 1, t] = a1 * inverse + u1 * radial
                rows[i, 2, t] = a2 * inverse + u2 * radial
                rows[i, 3, t], rows[i, 4, t], rows[i, 5, t] = -b0, -b1, -b2
                rows[i, 6, t] = w[t] * flat * distortion
                rows[i, 7, t], rows[i, 8, t] = (w[t], 0.0) if i == 0 else (0.0, w[t])
                rows[i, 9, t] = scale * flat * squared
                rows[i, 10, t] = scale * flat * squared * squared
                rows[i, 11, t], rows[i, 12, t], rows[i, 13, t] = b0, b1, b2
                rows[i, 14, t] = error0 if i == 0 else error1
        for t in range(size):
            for i in range(11):
                camera0[start + t, i], camera1[start + t, i] = rows[0, i, t], rows[1, i, t]
            for i in range(3):
                point0[start + t, i], point1[start + t, i] = rows[0, 11 + i, t], rows[1, 11 + i, t]
            weight0[start + t], weight1[start + t] = rows[0, 14, t], rows[1, 14, t]
            residual[start + t, 0], residual[start + t, 1] = r[0, t], r[1, t]


WORKLOAD = Workload(
    name="ba",
    what="bundle adjustment: residuals and Jacobian blocks",
    cases=[Case("n = 31,843", n=31_843)],
    tiny=Case("n = 70", n=70),
    data=data,
    wrt=["camera", "point", "weight"],
    contestants={
        "symgraph": peers.symgraph(model),
        "symgraph eager": peers.eager_function(tensor_blocks),
        "JAX": peers.jax_function(jax_blocks),
        "PyTorch": peers.torch_function(tensor_blocks),
        "PyTensor": peers.pytensor_function(pytensor_blocks),
        "CasADi": casadi,
        "autograd": peers.autograd_function(autograd_blocks),
        "limit": peers.by_hand(limit),
    },
)
