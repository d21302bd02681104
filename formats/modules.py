"""Modules that a configuration names: found by name, or read without importing them, which may cost seconds of torch."""

import ast
import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from formats.files import InputError


def find_module(what: str, name: str, package: str, function: str, known: Callable[[], list[str]]) -> Any:
    """The module `name` of a package, or of that dotted name, that has `function`; raises InputError naming `known` ones."""
    module = imported(dotted(name, package))
    if not callable(getattr(module, function, None)):
        raise InputError(f"{what} {name!r}: no such module; {choice(known())}")
    return module


def imported(path: str) -> Any:
    """The module of a dotted name; None where there is no such module. What it imports itself and is not there, is raised."""
    if not all(part.isidentifier() for part in path.split(".")):
        return None
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):
            raise
        return None


def dotted(name: str, package: str) -> str:
    """The full name of a module of a package, or of one that is named in full."""
    return name if "." in name else f"{package}.{name}"


def choice(known: list[str]) -> str:
    """Which names there are, for a message."""
    return f"known are {', '.join(known)}, or a module's dotted name"


@cache
def file_of(module: str) -> Path | None:
    """A module's file; None where there is no such module, or none of Python.

    Raises InputError where a package that it lies in, which is imported, cannot be.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    except Exception as error:  # a package of one's own may raise anything
        raise InputError(f"a package of {module} cannot be imported ({type(error).__name__}: {error})") from None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@cache
def statements(module: str) -> list[ast.stmt] | None:
    """The statements of a module's file; None where there is no such file. Raises InputError for one that is not Python."""
    path = file_of(module)
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body if path else None
    except SyntaxError as error:
        raise InputError(f"{path}, line {error.lineno}: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a Python file ({error})") from None


def defined(module: str) -> set[str]:
    """Names of the functions and classes of a module, and of what it sets; none where there is no such file."""
    names = set()
    for node in statements(module) or []:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {one.id for one in node.targets if isinstance(one, ast.Name)}
    return names


def fields_of(module: str, name: str) -> set[str] | None:
    """Names of the fields of a dataclass and of its bases; None where the source alone does not tell them."""
    for node in statements(module) or []:
        if isinstance(node, ast.ClassDef) and node.name == name:
            own = {
                one.target.id
                for one in node.body
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            }
            bases = [fields_of(module, base.id) if isinstance(base, ast.Name) else None for base in node.bases]
            return None if None in bases else own.union(*filter(None, bases))
        if isinstance(node, ast.ImportFrom) and node.module and name in [alias.name for alias in node.names]:
            return fields_of(node.module, name)
    return None
