"""Options of a training run, written from the settings' own fields, read without importing torch.

The settings' classes live in modules that import torch; help must not. So their source is parsed.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.request import renamed
from peer_cl.errors import InputError, StateError

if TYPE_CHECKING:
    from pipelines.settings import TrainingSettings

SOURCES = (("pipelines.settings", "TrainingSettings"), ("peer_cl.layer", "PoolShape"))
RENAMED = {"text_passes": "--passes", "hold_out_percent": "--hold-out"}
"""Options that are called otherwise than their field."""
_TYPES = {"int": int, "float": float, "str": str}


@dataclass(frozen=True)
class Setting:
    """A field of a settings class that becomes an option."""

    name: str
    kind: type
    default: Any
    help: str

    @property
    def option(self) -> str:
        """How the option is written."""
        return RENAMED.get(self.name, "--" + self.name.replace("_", "-"))


@functools.cache
def read_settings(module: str, name: str) -> tuple[Setting, ...]:
    """Return the numbers and words among a dataclass's fields, with the sentence under each.

    Args:
        module: where the class is; only its parent package is imported.
        name: the class.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise StateError(f"the source of {module} is missing; install peer-cl again")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name
    )
    found = []
    for field, after in itertools.pairwise(body):
        kind = _TYPES.get(_annotation(field))
        if kind is None or not isinstance(field, ast.AnnAssign) or field.value is None:
            continue
        told = _sentence(after)
        default = ast.literal_eval(field.value)
        found.append(Setting(ast.unparse(field.target), kind, default, told))
    return tuple(found)


def _annotation(node: ast.stmt) -> str:
    return ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""


def _sentence(node: ast.stmt) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return " ".join(str(ast.literal_eval(node.value)).split()) if is_text else ""  # type: ignore[attr-defined]


def takes_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb an option for each setting; its parameter `settings` gets what was said."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "settings"
    ]
    settings = [setting for source in SOURCES for setting in read_settings(*source)]
    parameters += [_parameter(setting) for setting in settings]

    @functools.wraps(function)
    def run(*args: Any, **values: Any) -> None:
        said = {item.name: values.pop(item.name) for item in settings if item.name in values}
        given = {name: value for name, value in said.items() if value is not None}
        function(*args, settings=given, **values)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in parameters}
    return run


def _parameter(setting: Setting) -> inspect.Parameter:
    option = typer.Option(
        setting.option,
        help=f"{setting.help} Default: {setting.default}.",
        show_default=False,
        rich_help_panel="Training",
    )
    kind: Any = setting.kind
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def training_settings(given: dict[str, Any]) -> TrainingSettings:
    """Return the settings of a run; what was not given keeps its default.

    Raises:
        InputError: when a value cannot be trained with.
    """
    from peer_cl.layer import PoolShape
    from pipelines.settings import TrainingSettings

    shape = {item.name for item in read_settings("peer_cl.layer", "PoolShape")}
    return TrainingSettings(
        shape=PoolShape(**{name: value for name, value in given.items() if name in shape}),
        **{name: value for name, value in given.items() if name not in shape},
    )


def typed_settings(given: dict[str, Any]) -> TrainingSettings:
    """Return the settings that options gave, as `training_settings` does.

    Raises:
        InputError: when a value cannot be trained with; fields are called as their options are.
    """
    try:
        return training_settings(given)
    except InputError as error:
        options = {item.name: item.option for source in SOURCES for item in read_settings(*source)}
        raise renamed(error, options) from error
