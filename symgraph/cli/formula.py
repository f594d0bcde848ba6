"""Formulas typed by a person, read safely: text becomes nodes, and nothing in it is ever evaluated as Python.

Python's own parser gives the syntax tree; each of its nodes is looked up in a table here, and one that is in
no table is refused with the place it stands at. Names are symbols, calls are elementwise operations.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any

from symgraph.errors import SymgraphError
from symgraph.expr import Expr, constant, scalar_value
from symgraph.op import FUNCTIONS, REGISTRY, Kind

_LONGEST = 10_000
_CONSTANTS = {"pi": math.pi, "E": math.e}
_OTHER_NAMES = {
    "ln": "log", "Abs": "abs", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "Max": "maximum", "Min": "minimum",
    "loggamma": "lgamma", "expit": "sigmoid", "ceiling": "ceil",
}  # fmt: skip
_BINARY: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("add", lambda x, y: x + y),
    ast.Sub: ("subtract", lambda x, y: x - y),
    ast.Mult: ("multiply", lambda x, y: x * y),
    ast.Div: ("divide", lambda x, y: x / y),
    ast.FloorDiv: ("floor_divide", lambda x, y: x // y),
    ast.Mod: ("remainder", lambda x, y: x % y),
    ast.Pow: ("power", math.pow),
}
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "negative", ast.UAdd: "positive"}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}


class FormulaError(SymgraphError, ValueError):
    """A formula that cannot be read: not an expression, or with something in it that is no formula."""


def functions() -> Mapping[str, Callable[..., Any]]:
    """Return what a formula may call: the public elementwise operations, by name."""
    found = {
        name: FUNCTIONS[name]
        for name, op in REGISTRY.items()
        if op.kind is Kind.ELEMENTWISE and name in FUNCTIONS and not op.attributes and not name.startswith("bitwise")
    }
    return found | {name: FUNCTIONS[name] for name in ("clip", "leaky_relu", "elu") if name in FUNCTIONS}


def parse_formula(text: str, symbol: Callable[[str], Expr]) -> Expr:
    """Return the node that a formula describes.

    Args:
        text: A Python expression of numbers, names, ``+ - * / // % **``, comparisons and calls of elementwise
            functions; ``pi`` and ``E`` are numbers. It is read, never evaluated.
        symbol: Gives the node of a name; called once for every name, in the order of reading.

    Raises:
        FormulaError: the text is no such expression, or a number in it is too large for float64.

    Example:
        >>> import symgraph as sg
        >>> nodes = {}
        >>> f = parse_formula("2*x + sin(y)", lambda name: nodes.setdefault(name, sg.constant(1.0)))
        >>> list(nodes)
        ['x', 'y']
    """
    if len(text) > _LONGEST:
        raise FormulaError(f"the formula has {len(text)} characters: at most {_LONGEST} are read")
    text = " ".join(text.split())
    try:
        tree = ast.parse(text, mode="eval").body
        return _Reader(text, symbol).read(tree)
    except SyntaxError as error:
        raise FormulaError(_syntax_message(text, error)) from None
    except (RecursionError, MemoryError):
        raise FormulaError("the formula is nested too deeply") from None
    except ValueError as error:
        if isinstance(error, FormulaError):
            raise
        raise FormulaError(f"the formula cannot be read: {error}") from None


def _syntax_message(text: str, error: SyntaxError) -> str:
    if not text:
        return "the formula is empty"
    if "digits" in error.msg:
        return "a number in the formula is too large for float64"
    return f"the formula is not an expression: {error.msg}\n{_pointer(text, (error.offset or 1) - 1)}"


def _pointer(text: str, column: int) -> str:
    start = max(0, column - 60)
    shown = "".join(c if c.isprintable() else "?" for c in text[start : start + 100])
    return f"  {shown}\n  {' ' * (column - start)}^"


class _Reader:
    def __init__(self, text: str, symbol: Callable[[str], Expr]) -> None:
        self.text = text
        self.symbol = symbol
        self.functions = functions()
        self.symbols: dict[str, Expr] = {}

    def error(self, tree: ast.expr, message: str) -> FormulaError:
        return FormulaError(f"{message}\n{_pointer(self.text, tree.col_offset)}")

    def read(self, tree: ast.expr) -> Expr:
        match tree:
            case ast.Constant(value=value):
                return self.number(tree, value)
            case ast.Name(id=name):
                return self.name(tree, name)
            case ast.UnaryOp(op=operator, operand=operand) if type(operator) in _UNARY:
                return self.unary(_UNARY[type(operator)], self.read(operand))
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _BINARY:
                return self.binary(tree, operator, self.read(left), self.read(right))
            case ast.BinOp(op=ast.BitXor()):
                raise self.error(tree, "^ is not an operation of a formula: powers are written x**2")
            case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _COMPARISONS:
                result: Expr = FUNCTIONS[_COMPARISONS[type(operator)]](self.read(left), self.read(right))
                return result
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(tree, name, arguments)
            case ast.IfExp():
                raise self.error(tree, "a choice is written where(condition, value, otherwise)")
        raise self.error(tree, f"a formula has no {_describe(tree)}")

    def number(self, tree: ast.expr, value: object) -> Expr:
        if type(value) not in (int, float):
            raise self.error(tree, f"a formula has real numbers only, not {value!r}")
        try:
            number = float(value)  # type: ignore[arg-type]
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error(tree, "the number is too large for float64")
        return constant(number)

    def name(self, tree: ast.expr, name: str) -> Expr:
        if name in _CONSTANTS:
            return constant(_CONSTANTS[name])
        if name in self.functions or name in _OTHER_NAMES:
            raise self.error(tree, f"{name} is a function: it is written {name}(...)")
        if name.startswith("_"):
            raise self.error(tree, f"{name} is not a symbol: symbols start with a letter")
        if name not in self.symbols:
            self.symbols[name] = self.symbol(name)
        return self.symbols[name]

    def unary(self, name: str, x: Expr) -> Expr:
        number = scalar_value(x)
        if number is not None:
            return constant(-float(number) if name == "negative" else float(number))
        result: Expr = FUNCTIONS[name](x)
        return result

    def binary(self, tree: ast.expr, operator: ast.operator, x: Expr, y: Expr) -> Expr:
        name, compute = _BINARY[type(operator)]
        left, right = scalar_value(x), scalar_value(y)
        if left is None or right is None:
            result: Expr = FUNCTIONS[name](x, y)
            return result
        try:
            number = compute(float(left), float(right))
        except (OverflowError, ValueError, ZeroDivisionError):
            number = math.inf
        if not math.isfinite(number):
            raise self.error(tree, f"{name} of {left:g} and {right:g} is no number that float64 can hold")
        return constant(number)

    def call(self, tree: ast.expr, name: str, arguments: list[ast.expr]) -> Expr:
        function = self.functions.get(_OTHER_NAMES.get(name, name))
        if function is None:
            close = difflib.get_close_matches(name, [*self.functions, *_OTHER_NAMES], n=1)
            hint = f": did you mean {close[0]}?" if close else ""
            raise self.error(tree, f"{name} is not a function that symgraph knows{hint}")
        operands = [self.read(argument) for argument in arguments]
        try:
            result: Expr = function(*operands)
        except TypeError as error:
            if isinstance(error, SymgraphError):
                raise self.error(tree, str(error).partition("\n")[0]) from None
            raise self.error(tree, f"{name} does not take {len(operands)} argument(s)") from None
        return result


_DESCRIPTIONS: dict[type[ast.expr], str] = {
    ast.Attribute: "attributes (a name with a dot)",
    ast.Call: "calls other than name(argument, ...)",
    ast.Compare: "comparisons other than of two values",
    ast.Lambda: "lambda",
    ast.Subscript: "indexing in brackets []",
    ast.Starred: "starred arguments",
    ast.BoolOp: "and, or: use logical_and(a, b), logical_or(a, b)",
    ast.JoinedStr: "strings",
}


def _describe(tree: ast.expr) -> str:
    if isinstance(tree, ast.BinOp | ast.UnaryOp):
        return f"operator {type(tree.op).__name__}"
    return _DESCRIPTIONS.get(type(tree), f"{type(tree).__name__} expressions")
