"""What is done to a guard to see whether a test notices: it is removed, made to fire always, or moved by one.

These stand in place of mutmut's own operators, which mutate texts for people and replace arguments by None, but never
take a check away. Each takes a node and yields what may stand in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import libcst as cst
import libcst.matchers as m
from mutmut.mutation import file_mutation, mutators

Operator = Callable[[Any], Iterable[cst.CSTNode]]

_TRUE: Final = cst.Name("True")
_FALSE: Final = cst.Name("False")
_LOG: Final = m.Call(func=m.Attribute(value=m.Name("log")))


def condition(node: cst.If) -> Iterable[cst.If]:
    """Take a branch never, and always. Where all it does is to raise, `raising` takes it away."""
    if not m.matches(node.body, m.IndentedBlock(body=[m.SimpleStatementLine(body=[m.Raise()])])):
        yield node.with_changes(test=_FALSE)
    yield node.with_changes(test=_TRUE)


def raising(node: cst.Raise) -> Iterable[cst.Pass]:
    """Go on where an error was raised."""
    yield cst.Pass()


def call(node: cst.Expr) -> Iterable[cst.Pass]:
    """Leave out a statement that calls something: a check, or what is stored, noted, sent. Log lines stay."""
    if m.matches(node.value, m.Call() | m.Await(expression=m.Call())) and not m.matches(node.value, _LOG):
        yield cst.Pass()


def operand(node: cst.BooleanOperation) -> Iterable[cst.BaseExpression]:
    """Drop either side of an `and` or `or`."""
    for side in (node.left, node.right):
        yield side.with_changes(lpar=[cst.LeftParen(), *side.lpar], rpar=[*side.rpar, cst.RightParen()])


def element_filter(node: cst.CompIf) -> Iterable[cst.CompIf]:
    """Keep every element that a comprehension leaves out."""
    yield node.with_changes(test=_TRUE)


def quantifier(node: cst.Call) -> Iterable[cst.Call]:
    """Swap `any` and `all`, `min` and `max`."""
    swapped = {"any": "all", "all": "any", "min": "max", "max": "min"}
    if isinstance(node.func, cst.Name) and node.func.value in swapped:
        yield node.with_changes(func=cst.Name(swapped[node.func.value]))


def alternative(node: cst.IfExp) -> Iterable[cst.IfExp]:
    """Take one arm always."""
    yield node.with_changes(test=_TRUE)
    yield node.with_changes(test=_FALSE)


OPERATORS: Final[Sequence[tuple[type[cst.CSTNode], Operator]]] = (
    (cst.If, condition),
    (cst.Raise, raising),
    (cst.Expr, call),
    (cst.BooleanOperation, operand),
    (cst.CompIf, element_filter),
    (cst.Call, quantifier),
    (cst.IfExp, alternative),
    (cst.UnaryOperation, mutators.operator_remove_unary_ops),
    (cst.ComparisonTarget, mutators.operator_swap_op),
    (cst.BinaryOperation, mutators.operator_swap_op),
    (cst.CSTNode, mutators.operator_keywords),
    (cst.BaseNumber, mutators.operator_number),
    (cst.Name, mutators.operator_name),
)


class Visitor(file_mutation.MutationVisitor):
    """Leaves out what is no guard: what an error says, formatted texts, and what mypy is shown by an `assert`."""

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FormattedString | cst.Assert):
            return False
        return super().on_visit(node) and not isinstance(node, cst.Raise)
