"""From a loop program to the text of a Python module that Numba compiles, and that runs as plain Python too."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from symgraph.compile import loops
from symgraph.compile.loops import Affine, Axis, Buffer, Load, Name, Operand, Statement, Subscript
from symgraph.compile.notation import bound_text, index_text, section_text
from symgraph.compile.show import signature
from symgraph.dims import Size, product

_POLICY = "Floating point: sums may be reordered and a*b+c fused; NaN, infinities and signed zeros keep their meaning."
_STACKED = {"cholesky", "cholesky_pullback", "inv", "solve", "solve_triangular"}
_DETERMINANTS = {"det", "det_sign", "logabsdet"}
_WIDEST = {"f": np.float64, "i": np.int64, "u": np.uint64}
_ALONG_AXIS = {"cumulative_sum", "exclusive_prod", "argmax", "argmin"}


def emit(program: loops.Program) -> str:
    """Return the text of a module that defines ``kernel(*arguments, *sizes) -> tuple of results``."""
    writer = _Writer(program)
    body = [
        f"{buffer.name} = np.empty({_shape(buffer.shape)}, {_dtype(buffer.dtype)})"
        for buffer in program.buffers()
        if writer.needs_allocation(buffer)
    ]
    writer.write(program.body, 0, body)
    results = ", ".join(r.name if isinstance(r, Buffer) else writer.operand(r) for r in program.results)
    body.append(f"return ({results}{',' if len(program.results) == 1 else ''})")
    takes = ", ".join([a.name for a in program.arguments] + list(program.sizes))
    header = [f'"""{program.name}: emitted by symgraph.', "", _POLICY, '"""', "", "import numpy as np", ""]
    if writer.kernels:
        header += _import("symgraph.compile.kernels", sorted(writer.kernels))
    if writer.library:
        header += _import("symgraph.compile.library", sorted(writer.library))
    if writer.kernels or writer.library:
        header.append("")
    definition = _wrapped(f"def kernel({takes}):")
    return "\n".join([*header, "", *definition, _document(program), *("    " + line for line in body), ""])


def _import(module: str, names: Sequence[str]) -> list[str]:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= 110:
        return [line]
    return [f"from {module} import (", *(f"    {name}," for name in names), ")"]


def _wrapped(line: str) -> list[str]:
    if len(line) <= 110:
        return [line]
    head, _, rest = line.partition("(")
    return [
        f"{head}(",
        *textwrap.wrap(rest.removesuffix("):"), 100, initial_indent="    ", subsequent_indent="    "),
        "):",
    ]


def _document(program: loops.Program) -> str:
    takes, gives = signature(program)
    text = textwrap.wrap(f"{', '.join(takes) or 'nothing'} -> {', '.join(gives) or 'nothing'}", 100)
    if len(text) == 1:
        return f'    """{text[0]}"""'
    return "\n".join(['    """' + text[0], *("    " + line for line in text[1:]), '    """'])


def _shape(shape: Sequence[Size]) -> str:
    sizes = ", ".join(str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"


def _dtype(dtype: np.dtype[np.generic]) -> str:
    return "np.bool_" if dtype == np.bool_ else f"np.{dtype.name}"


def _number(value: Any, dtype: np.dtype[np.generic]) -> str:
    if dtype.kind == "f":
        number = float(value)
        text = "np.nan" if math.isnan(number) else repr(number)
        text = text.replace("inf", "np.inf")
        return text if dtype == np.float64 else f"{_dtype(dtype)}({text})"
    if dtype.kind == "b":
        return str(bool(value))
    return str(int(value)) if dtype == np.int64 else f"{_dtype(dtype)}({int(value)})"


def _identity(how: str, dtype: np.dtype[np.generic]) -> str:
    return _number(loops.identity(how, dtype), dtype)


class _Writer:
    """Writes statements as lines, and remembers which functions they call."""

    def __init__(self, program: loops.Program) -> None:
        self.kernels: set[str] = set()
        self.library: set[str] = set()
        self.functions = {id(f): f"function_{i + 1}" for i, f in enumerate(program.user_functions)}
        self.called = {id(s.result) for s in loops.walk(program.body) if isinstance(s, loops.Call | loops.View)}

    def needs_allocation(self, buffer: Buffer) -> bool:
        return id(buffer) not in self.called

    def write(self, body: Sequence[Statement], depth: int, lines: list[str]) -> None:
        indent = "    " * depth
        for statement in body:
            match statement:
                case loops.Loop(axis=axis, body=inner):
                    lines.append(f"{indent}for {axis.name} in range({_range(axis)}):")
                    self.write(inner, depth + 1, lines)
                case loops.Multiply():
                    lines.append(indent + _multiply(statement))
                case loops.MatrixVector(result=result, matrix=matrix, vector=vector, accumulate=more):
                    term = f"np.dot({section_text(matrix)}, {section_text(vector)})"
                    lines.append(f"{indent}{_whole(result)} {'+=' if more else '='} {term}")
                case loops.Outer(result=result, left=left, right=right):
                    lines.append(f"{indent}{_whole(result)} += np.outer({section_text(left)}, {section_text(right)})")
                case loops.Allocate() | loops.Free():
                    pass
                case loops.Let():
                    lines.append(f"{indent}{statement.name} = {self._value(statement)}")
                case loops.Store(buffer=buffer, indices=indices, operand=operand):
                    lines.append(f"{indent}{self.element(buffer, indices)} = {self.operand(operand)}")
                case loops.Start(name=name, dtype=dtype, how=how):
                    lines.append(f"{indent}{name} = {_identity(how, dtype)}")
                case loops.Accumulate():
                    lines.append(indent + self._accumulate(statement))
                case loops.Fill(buffer=buffer, how=how, source=source):
                    lines.append(f"{indent}{buffer.name}[...] = {self._fill(buffer, how, source)}")
                case loops.Call():
                    lines.append(indent + self._call(statement))
                case loops.View(result=result, source=source):
                    lines.append(f"{indent}{result.name} = {source.name}.reshape({_shape(result.shape)})")

    def _fill(self, buffer: Buffer, how: str, source: Buffer | loops.Literal | None) -> str:
        if source is None:
            return _identity(how, buffer.dtype)
        return source.name if isinstance(source, Buffer) else self.operand(source)

    def _value(self, let: loops.Let) -> str:
        shown = [self.operand(operand) for operand in let.operands]
        if let.operation == "astype":
            return self._converted(shown[0], let.operands[0].dtype, let.dtype)
        if let.function is not None:
            return f"{_dtype(let.dtype)}({self.functions[id(let.function)]}({', '.join(shown)}))"
        if let.template is None:
            self.kernels.add(let.operation)
            return f"{let.operation}({', '.join(shown + [repr(a) for a in let.attributes])})"
        text = let.template.format(*shown)
        narrow = let.dtype.kind in "iu" and let.dtype != np.int64 and let.operation not in ("copy", "where", "positive")
        return f"{_dtype(let.dtype)}({text})" if narrow else text

    def _converted(self, text: str, before: np.dtype[np.generic], after: np.dtype[np.generic]) -> str:
        if before == after:
            return text
        return f"{text} != 0" if after == np.bool_ else f"{_dtype(after)}({text})"

    def _accumulate(self, statement: loops.Accumulate) -> str:
        target = self.operand(statement.target)
        value = self.operand(statement.operand)
        dtypes = statement.target.dtype, statement.operand.dtype
        match statement.how:
            case "sum" if isinstance(statement.target, Name) and dtypes[0].kind == "f":
                self.kernels.add("accumulate")
                return f"{target} = accumulate({target}, {self._converted(value, dtypes[1], dtypes[0])})"
            case "sum" | "prod" | "any" | "all":
                symbol = {"sum": "+", "prod": "*", "any": "|", "all": "&"}[statement.how]
                return f"{target} {symbol}= {value}"
            case "set":
                return f"{target} = {value}"
            case how:
                kernel = {"max": "maximum", "min": "minimum"}[how]
                self.kernels.add(kernel)
                return f"{target} = {kernel}({target}, {value})"

    def operand(self, operand: Operand) -> str:
        match operand:
            case Load(buffer=buffer, indices=indices):
                return self.element(buffer, indices)
            case loops.Literal(value=value, dtype=dtype):
                text = _number(value, dtype)
                return f"({text})" if text.startswith("-") else text
            case loops.IndexValue(index=index, dtype=dtype):
                return f"{_dtype(dtype)}({index_text(index)})"
            case loops.Guarded(conditions=conditions, operand=inner, otherwise=otherwise):
                tests = " and ".join(map(bound_text, conditions))
                return f"({self.operand(inner)} if {tests} else {self.operand(otherwise)})"
        return operand.name

    def element(self, buffer: Buffer, indices: Sequence[Subscript]) -> str:
        if not indices:
            return buffer.name
        return f"{buffer.name}[{', '.join(self._subscript(i) for i in indices)}]"

    def _subscript(self, index: Subscript) -> str:
        if isinstance(index, loops.Wrapped):
            self.kernels.add("wrap_index")
            return f"wrap_index({index.value.name}, {index.size})"
        return index_text(index) if isinstance(index, Affine) else index.name

    def _call(self, call: loops.Call) -> str:
        result = call.result
        operands = [self._argument(operand) for operand in call.operands]
        if call.user is not None:
            self.library.add("received")
            returned = f"{self.functions[id(call.user)]}({', '.join(operands)})"
            kinds = [result.dtype, np.dtype(_WIDEST.get(result.dtype.kind, result.dtype))]
            declared = ", ".join([_shape(result.shape), *(f"np.dtype({_dtype(kind)})" for kind in kinds)])
            checked = f"received({call.function!r}, {returned}, {declared})"
            return f"{result.name} = {checked}{'' if result.shape else '[()]'}"
        first = call.operands[0]
        shape = first.shape if isinstance(first, Buffer) else ()
        if call.function == "matmul":
            if len(result.shape) == 2 and result.dtype.kind == "f":
                return f"{result.name} = np.dot({', '.join(operands)})"
            if len(result.shape) == 2:  # which BLAS has for floating-point numbers only, and Numba's np.dot with it
                self.library.add("integer_matmul")
                return f"{result.name} = integer_matmul({', '.join(operands)})"
            stacks = [_stacked(o) for o in call.operands]
            return self._shaped(result, call.function, stacks)
        if call.function in _STACKED:
            stacks = [_stacked(o) for o in call.operands]
            return self._shaped(result, call.function, stacks + [repr(a) for a in call.attributes])
        if call.function in _DETERMINANTS:
            return self._shaped(result, call.function, [_stacked(first)])
        if call.function in _ALONG_AXIS:
            axis = call.attributes[0][0] if isinstance(call.attributes[0], tuple) else call.attributes[0]
            parts = (product(shape[:axis]), shape[axis], product(shape[axis + 1 :]))
            return self._shaped(result, call.function, [f"{operands[0]}.reshape({_shape(parts)})"])
        raise TypeError(f"no library function for {call.function}")

    def _argument(self, operand: Operand | Buffer | loops.Transposed) -> str:
        if isinstance(operand, Buffer):
            return operand.name
        return f"{operand.buffer.name}.T" if isinstance(operand, loops.Transposed) else self.operand(operand)

    def _shaped(self, result: Buffer, function: str, operands: Sequence[str]) -> str:
        self.library.add(function)
        text = f"{function}({', '.join(operands)})"
        if not result.shape:
            return f"{result.name} = {text}.ravel()[0]"
        return f"{result.name} = {text}.reshape({_shape(result.shape)})"


def _range(axis: Axis | loops.Block) -> str:
    if isinstance(axis, loops.Block):
        return f"0, {axis.size}, {axis.rows}"
    if axis.block is not None:
        return f"{axis.block.name}, {_stop(axis.block)}"
    return str(axis.size) if axis.start == 0 else f"{axis.start}, {axis.size}"


def _stop(block: loops.Block) -> str:
    return f"min({block.name} + {block.rows}, {block.size})"


def _multiply(statement: loops.Multiply) -> str:
    left, right = _panel(statement.left, False), _panel(statement.right, False)
    if statement.result.transposed:
        left, right = f"{right}.T", f"{left}.T"
    return f"{_panel(statement.result, True)} {'+=' if statement.accumulate else '='} np.dot({left}, {right})"


def _whole(section: loops.Section) -> str:
    """Return what is written to: all elements of the section."""
    return section_text(section) if section.indices else f"{section.buffer.name}[:]"


def _panel(panel: loops.Panel, is_result: bool) -> str:
    text = panel.buffer.name
    block = panel.block
    if block is not None:
        rows = f":{_stop(block)} - {block.name}" if panel.local else f"{block.name}:{_stop(block)}"
        text = f"{text}[:, {rows}]" if panel.along else f"{text}[{rows}]"
    elif is_result:
        text = f"{text}[:]"
    if is_result:
        return text
    if block is not None and panel.along:
        text = f"np.ascontiguousarray({text})"
    return f"{text}.T" if panel.transposed else text


def _stacked(operand: Any) -> str:
    shape = operand.shape if len(operand.shape) > 1 else (*operand.shape, 1)
    return f"{operand.name}.reshape({_shape((product(shape[:-2]), *shape[-2:]))})"
