"""Makes the Python that is frozen into the firmware: what `main` can reach, and nothing else.

    shrink.py MAIN OUT NAME=FOLDER... C...   modules `main` (the file MAIN), the packages NAME in FOLDER;
                                             C: folders of sources whose MP_QSTR_names are not ours to change

Sources stay as they are, for people and for CPython. Here a linker's work is done on them: packages, modules
that nobody imports, functions, classes and methods that nobody mentions, type annotations and docstrings are
left out; constants that are integers or strings are put where they are used, so that they take no room in
a module's dictionary, which is RAM. What is one constant, or one module, in all classes of the firmware (a
board's ROW of the table of chips, the addresses of a flash controller) is put in place in the same way; a
module that is handed on as a value keeps all that it has.
Whether a name is mentioned is asked of all modules together: too much may stay, never too little, as long
as nobody looks a name up by a computed string.
"""

import ast
import copy
import operator
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

# imported inside functions that the firmware does not call, or on CPython only
LEFT_OUT = {
    "fota_agent.runner.background",
    "fota_agent.transport.folder",
    "fota_agent.transport.mirror",
    "fota_agent.transport.tls_cpython",
}
LEFT_OUT |= {"fota_wire.host_crypto"}
LONGEST_STRING = 40
OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.BitOr: operator.or_, ast.BitAnd: operator.and_,
}  # fmt: skip
Constant = int | str
Expression = TypeVar("Expression", bound=ast.expr)
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign


@dataclass(slots=True)
class Module:
    """One module on its way into the firmware."""

    name: str
    tree: ast.Module
    constants: dict[str, Constant] = field(default_factory=dict)


# -- reading -----------------------------------------------------------------------------------------------


def is_type_checking(node: ast.AST) -> bool:
    """Tell whether ``node`` is of the idiom that only type checkers look into."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_CHECKING"


class Strip(ast.NodeTransformer):
    """Removes annotations, docstrings and what is for type checkers."""

    def visit(self, node: ast.AST) -> ast.AST | None:
        if is_type_checking(node):
            return None
        return super().visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign([node.target], node.value, lineno=node.lineno))

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_If(self, node: ast.If) -> "ast.AST | list[ast.stmt]":
        """What begins with a module that is left out is not done here."""
        self.generic_visit(node)
        first = node.body[0] if node.body else ast.Pass()
        if isinstance(first, ast.ImportFrom) and first.module in LEFT_OUT:
            return node.orelse
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._filled(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._filled(node)

    def _filled(self, node: ast.FunctionDef | ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node


class Reader:
    """Finds modules by name and reads what they import."""

    def __init__(self, main: Path, packages: dict[str, Path]) -> None:
        self._main = main
        self._packages = packages
        self.modules: dict[str, Module] = {}

    def _source(self, name: str) -> Path | None:
        if name == "main":
            return self._main
        folder = self._packages.get(name.partition(".")[0])
        if folder is None or name in LEFT_OUT:
            return None
        path = folder / name.replace(".", "/")
        return next(
            (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None
        )

    def read(self, name: str) -> None:
        """Read a module and, in turn, all that it imports."""
        source = self._source(name)
        if source is None or name in self.modules:
            return
        tree = Strip().visit(ast.parse(source.read_text()))
        self.modules[name] = Module(name, tree)
        for wanted in imported(tree):
            self.read(wanted)


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield what may be the name of an imported module: ``from a import b`` may mean ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# -- constants ---------------------------------------------------------------------------------------------


class Constants:
    """Finds the constants of all modules, and puts them where they are used."""

    def __init__(self, modules: dict[str, Module]) -> None:
        self._modules = modules
        for module in modules.values():
            self._collect(module, set())
        self._fixed = self._class_constants()
        self._bare = {name for module in modules.values() for name in bare_attributes(module.tree)}
        self.whole = {found.name for found in self._values()}

    def _values(self) -> "Iterator[Module]":
        """Yield the modules that are handed on: nobody can tell what of them is used."""
        for module in self._modules.values():
            aliases = self._aliases(module)
            in_classes = {id(part.value) for part in class_assignments(module.tree)}
            for node in bare(module.tree, ast.Name):
                if node.id in aliases and isinstance(node.ctx, ast.Load) and id(node) not in in_classes:
                    yield aliases[node.id]
        for name, value in self._fixed.items():
            if isinstance(value, Module) and name in self._bare:
                yield value

    def _collect(self, module: Module, busy: set[str]) -> None:
        if module.name in busy or module.constants:
            return
        for name in imported(module.tree):
            if name in self._modules:
                self._collect(self._modules[name], busy | {module.name})
        bound = bindings(module.tree)
        known = self._visible(module)
        for node in module.tree.body:
            for name, value in assigned(node):
                found = evaluate(value, known)
                if found is not None and bound[name] == 1:
                    known[name] = module.constants[name] = found

    def _visible(self, module: Module) -> dict[str, Constant]:
        """Return the constants that ``module`` has imported, by the name that it uses."""
        found: dict[str, Constant] = {}
        bound = bindings(module.tree)
        for node in module.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module in self._modules:
                for alias in node.names:
                    value = self._modules[node.module].constants.get(alias.name)
                    if value is not None and bound[alias.asname or alias.name] == 1:
                        found[alias.asname or alias.name] = value
        return found

    def _aliases(self, module: Module) -> dict[str, Module]:
        """Return the modules that ``module`` has imported, by the name that it uses."""
        found = {}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    other = self._modules.get(f"{node.module}.{alias.name}")
                    if other is not None:
                        found[alias.asname or alias.name] = other
        return found

    def _class_constants(self) -> "dict[str, Constant | Module]":
        """Return what attributes of classes are, where all classes and modules agree on it.

        Only names in capitals, since nobody assigns to these but the body of a class.
        """
        found: dict[str, set[Constant | str]] = {}
        for module in self._modules.values():
            known, aliases = self._visible(module) | module.constants, self._aliases(module)
            for part in class_assignments(module.tree):
                for name, value in assigned(part):
                    alias = aliases.get(value.id) if isinstance(value, ast.Name) else None
                    constant = evaluate(Place(known, aliases).visit(copy.deepcopy(value)), known)
                    found.setdefault(name, set()).add(f"module {alias.name}" if alias else constant or "?")
        fixed: dict[str, Constant | Module] = {}
        for name, values in found.items():
            value = next(iter(values))
            if len(values) == 1 and name.isupper() and value != "?":
                by_name = str(value).removeprefix("module ")
                fixed[name] = self._modules[by_name] if str(value).startswith("module ") else value
        return fixed

    def place(self, module: Module) -> None:
        """Replace the constants in ``module``; drop their assignments and imports."""
        names = self._visible(module) | module.constants
        kept = self._bare | (set(module.constants) if module.name in self.whole else set())
        module.tree = Place(names, self._aliases(module), self._fixed, kept).visit(module.tree)


class Place(ast.NodeTransformer):
    """Puts constants in place of their names."""

    def __init__(
        self,
        names: dict[str, Constant],
        modules: dict[str, Module],
        fixed: "dict[str, Constant | Module] | None" = None,
        kept: "set[str] | None" = None,
    ) -> None:
        self._names = names
        self._modules = modules
        self._fixed = fixed or {}
        self._kept = kept or set()

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and node.id in self._names:
            return ast.Constant(self._names[node.id])
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        module = self._module(node.value)
        value = self._fixed.get(node.attr) if is_self(node.value) else None
        if module is not None:
            value = module.constants.get(node.attr)
        if isinstance(value, int | str):
            return ast.Constant(value)
        return self.generic_visit(node)

    def _module(self, node: ast.expr) -> Module | None:
        """Return the module that an expression is, if it is one."""
        if isinstance(node, ast.Name):
            return self._modules.get(node.id)
        if isinstance(node, ast.Attribute) and is_self(node.value):
            found = self._fixed.get(node.attr)
            return found if isinstance(found, Module) else None
        return None

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [
            part
            for part in node.body
            if not (names := [name for name, _ in assigned(part)])
            or not all(self._gone(name, self._fixed) for name in names)
        ]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        pairs = list(assigned(node))
        if pairs and all(self._gone(name, self._names) for name, _ in pairs):
            return None
        return self.generic_visit(node)

    def _gone(self, name: str, known: "Mapping[str, object]") -> bool:
        """Tell whether nobody needs the assignment of a name once it is in place everywhere."""
        return name in known and name not in self._kept

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        node.names = [alias for alias in node.names if (alias.asname or alias.name) not in self._names]
        return node if node.names else None


def is_self(node: ast.expr) -> bool:
    """Tell whether an expression is a method's own object."""
    return isinstance(node, ast.Name) and node.id == "self"


def bare(tree: ast.AST, kind: type[Expression]) -> Iterator[Expression]:
    """Yield the expressions of a kind that are used as they are, not for an attribute."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    yield from (node for node in ast.walk(tree) if isinstance(node, kind) and id(node) not in inner)


def bare_attributes(tree: ast.AST) -> Iterator[str]:
    """Yield the names of attributes of a method's own object that are used as they are."""
    yield from (node.attr for node in bare(tree, ast.Attribute) if is_self(node.value))


def class_assignments(tree: ast.AST) -> Iterator[ast.Assign]:
    """Yield the assignments in the bodies of classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (part for part in node.body if isinstance(part, ast.Assign))


def assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield (name, value) of ``A = x`` and ``A, B = x, y``."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) else numbered(value)
        for one, its in zip(target.elts, values, strict=False):
            if isinstance(one, ast.Name):
                yield one.id, its


def numbered(value: ast.expr) -> list[ast.expr]:
    """Return the items of ``range(...)``, and of ``(x + n for n in range(...))``."""
    if not re.fullmatch(r"(\(\w+ \+ (\w+) for \2 in )?range\([\w, ]+\)\)?", ast.unparse(value)):
        return []
    return [ast.Constant(item) for item in eval(ast.unparse(value), {"range": range})]  # noqa: S307  see above


def bindings(tree: ast.AST) -> dict[str, int]:
    """Return how often each name is bound anywhere in a module, parameters and imports included."""
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names = [node.id]
        elif isinstance(node, ast.arg):
            names = [node.arg]
        elif isinstance(node, ast.alias):
            names = [(node.asname or node.name).partition(".")[0]]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Global | ast.Nonlocal):
            names = node.names * 2
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names = [node.name]
        for name in names:
            found[name] = found.get(name, 0) + 1
    return found


def evaluate(node: ast.expr, known: dict[str, Constant]) -> Constant | None:
    """Return the integer or short string that an expression is, or None."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return node.value if len(node.value) <= LONGEST_STRING else None
        return node.value if type(node.value) is int else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = evaluate(node.left, known), evaluate(node.right, known)
        if isinstance(left, int) and isinstance(right, int):
            return int(OPERATORS[type(node.op)](left, right))
    return None


# -- codes of errors that nobody asks for ------------------------------------------------------------------


class DropCodes(ast.NodeTransformer):
    """Removes the short words of errors, ``FormatError(text, "field")``, that no code compares with: who
    reads a device's log reads the text.
    """

    def __init__(self, modules: dict[str, Module]) -> None:
        words = [code for module in modules.values() for code in map(code_of, ast.walk(module.tree)) if code]
        told = [
            node.value
            for module in modules.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and node.value in words
        ]
        self._unasked = {word for word in words if words.count(word) == told.count(word)}

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if code_of(node) in self._unasked:
            node.args.pop()
        return self.generic_visit(node)


def code_of(node: ast.AST) -> str | None:
    """Return the word that an error is made with, of a call ``SomeError(text, "word")``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
        code = node.args[1] if len(node.args) == 2 else None
        if isinstance(code, ast.Constant) and isinstance(code.value, str):
            return code.value
    return None


# -- what is reached ---------------------------------------------------------------------------------------


class Live:
    """What stays: definitions that code which stays mentions, and methods whose name it mentions anywhere."""

    def __init__(self, modules: dict[str, Module], whole: set[str]) -> None:
        self._modules = modules
        self.names: set[tuple[str, str]] = set()  # (module, name)
        for name in whole & set(modules):
            self.names |= {(name, name_of(node)) for node in modules[name].tree.body if is_definition(node)}
        self.methods: set[str] = set()
        self._imports = {name: self._origins(module) for name, module in modules.items()}
        waiting: list[tuple[str, Definition, bool]] = []
        for name, module in modules.items():
            for node in module.tree.body:
                if is_definition(node):
                    waiting.append((name, node, False))
                elif not isinstance(node, ast.Import | ast.ImportFrom):
                    self._mention(name, node)
        while ready := [item for item in waiting if self.has(*item)]:
            waiting = [item for item in waiting if not self.has(*item)]
            for name, node, _ in ready:
                self._open(name, node, waiting)

    def has(self, module: str, node: Definition, is_method: bool) -> bool:
        """Tell whether a definition stays."""
        name = name_of(node)
        return name in self.methods if is_method else (module, name) in self.names

    def _origins(self, module: Module) -> dict[str, tuple[str, str]]:
        """Return what the imported names of a module are: (module, name), or (module, "") for a module."""
        found = {}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    origin = (whole, "") if whole in self._modules else (node.module, alias.name)
                    found[alias.asname or alias.name] = origin
        return found

    def _mention(self, module: str, tree: ast.AST) -> None:
        imports = self._imports[module]
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                self.names.add((module, node.id))
                self.names.add(imports.get(node.id, ("", "")))
            elif isinstance(node, ast.Attribute):
                origin = imports.get(node.value.id) if isinstance(node.value, ast.Name) else None
                if origin is not None and not origin[1]:
                    self.names.add((origin[0], node.attr))
                self.methods.add(node.attr)

    def _open(self, module: str, node: Definition, waiting: list[tuple[str, Definition, bool]]) -> None:
        """Account for a definition that stays; the methods of a class wait to be mentioned themselves."""
        if not isinstance(node, ast.ClassDef):
            self._mention(module, node.value if isinstance(node, ast.Assign) else node)
            return
        for part in (*node.bases, *node.decorator_list):
            self._mention(module, part)
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and not is_special(part.name):
                waiting.append((module, part, True))
            else:
                self._mention(module, part)


def is_definition(node: ast.AST) -> bool:
    """Tell whether a statement of a module only gives something a name."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Name)
    return isinstance(node, ast.FunctionDef | ast.ClassDef)


def name_of(node: Definition) -> str:
    """Return the name that a definition gives."""
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else node.name


def is_special(name: str) -> bool:
    """Tell whether the interpreter calls it."""
    return name.startswith("__") and name.endswith("__")


class Drop(ast.NodeTransformer):
    """Removes from a module what nobody mentions."""

    def __init__(self, live: Live, module: Module) -> None:
        self._live = live
        self._module = module
        module.tree.body = [
            node for node in module.tree.body if not is_definition(node) or live.has(module.name, node, False)
        ]
        self.visit(module.tree)
        used = {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}
        module.tree = DropImports(used).visit(module.tree)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [
            part
            for part in node.body
            if not isinstance(part, ast.FunctionDef)
            or is_special(part.name)
            or part.name in self._live.methods
        ] or [ast.Pass()]
        return node


class DropImports(ast.NodeTransformer):
    """Removes imports of names that a module does not use."""

    def __init__(self, used: set[str]) -> None:
        self._used = used

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        node.names = [alias for alias in node.names if (alias.asname or alias.name) in self._used]
        return node if node.names else None

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        # one with a dot is there for what it does
        node.names = [alias for alias in node.names if "." in alias.name or alias.name in self._used]
        return node if node.names else None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node


# -- names -------------------------------------------------------------------------------------------------


class Flatten(ast.NodeTransformer):
    """Lays all modules side by side: a package would take a module of its own, and a part of every name.

    A module is called by the last part of its name, or by all of it where C or another module has that one.
    So is one that is left out, which nothing finds by any name.
    """

    def __init__(self, modules: dict[str, Module], foreign: set[str]) -> None:
        names = [*modules, *sorted(LEFT_OUT)]
        ends = [name.rpartition(".")[2] for name in names]
        self._flat = {
            name: name.replace(".", "_") if end in foreign or ends.count(end) > 1 else end
            for name, end in zip(names, ends, strict=True)
        }
        self.modules: dict[str, Module] = {}
        for name, module in modules.items():
            self.modules[self._flat[name]] = Module(self._flat[name], self.visit(module.tree))

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            alias.name = self._flat.get(alias.name, alias.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        rest = []
        for alias in node.names:
            flat = self._flat.get(f"{node.module}.{alias.name}")
            known = alias.asname or alias.name
            if flat is None:
                rest.append(alias)
            else:
                out.append(ast.Import([ast.alias(flat, None if flat == known else known)]))
        if rest:
            out.append(ast.ImportFrom(self._flat.get(node.module or "", node.module), rest, 0))
        return out


class Shorten(ast.NodeTransformer):
    """Gives names of our own short ones, the same in all modules, and parameters `q0`, `q1`...

    Each different name takes some 17 bytes of flash, that of a module twice. Names stay that C knows too,
    that some call or text mentions (`getattr`), that are parameters of some kind, and those of errors.
    """

    def __init__(self, modules: dict[str, Module], foreign: set[str]) -> None:
        trees = [module.tree for module in modules.values()]
        private = sorted({name for tree in trees for name in all_names(tree) if is_private(name)})
        self.names = {name: f"_{number}" for number, name in enumerate(private)}
        self._named = {node.arg for tree in trees for node in ast.walk(tree) if isinstance(node, ast.keyword)}
        kept = foreign | {"main"} | {name for tree in trees for name in told(tree)}
        ours = {name for tree in trees for name in defined(tree)}
        ours |= {part for name in modules for part in name.split(".")}
        public = sorted(ours - kept - set(private))
        self.names |= {name: f"_{number}" for number, name in enumerate(public, len(private))}
        self._depth = 0
        for module in modules.values():
            module.tree = self.visit(module.tree)
            module.name = self._dotted(module.name)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        plain = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
        new = {name: f"q{self._depth + at}" for at, name in enumerate(plain) if self._is_ours(name)}
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in new:
                part.id = new[part.id]
            elif isinstance(part, ast.arg) and part.arg in new:
                part.arg = new[part.arg]
        node.name = self.names.get(node.name, node.name)
        self._depth += len(plain)
        self.generic_visit(node)
        self._depth -= len(plain)
        return node

    def _is_ours(self, name: str) -> bool:
        return name != "self" and name not in self._named and not re.fullmatch(r"q\d+", name)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.attr = self.names.get(node.attr, node.attr)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = self.names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_alias(self, node: ast.alias) -> ast.alias:
        node.name = self._dotted(node.name)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        node.module = self._dotted(node.module or "")
        return self.generic_visit(node)

    def _dotted(self, name: str) -> str:
        return ".".join(self.names.get(part, part) for part in name.split("."))


def defined(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module gives to something: functions, classes, attributes, variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield from () if is_special(node.name) or node.name.endswith("Error") else (node.name,)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and len(node.id) > 3:
            yield node.id


def told(tree: ast.AST) -> Iterator[str]:
    """Yield the names that have to stay, since something else than a plain mention leads to them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Lambda):
            yield from (arg.arg for arg in node.args.args)
        elif isinstance(node, ast.arguments):
            yield from (arg.arg for arg in (*node.kwonlyargs, node.vararg, node.kwarg) if arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def foreign_names(folders: list[Path]) -> set[str]:
    """Return the names that C sources mention, and with them those that MicroPython's own objects have."""
    files = (path for folder in folders for path in folder.rglob("*.[ch]"))
    found = {
        name for path in files for name in re.findall(r"MP_QSTR_(\w+)", path.read_text(errors="replace"))
    }
    return found | set(dir(__builtins__))


def is_private(name: str) -> bool:
    """Tell whether a name is one of our own that begins with one underscore."""
    return name.startswith("_") and not name.startswith("__") and len(name) > 2


def all_names(tree: ast.AST) -> Iterator[str]:
    """Yield every name in a module, bound or mentioned."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def shrink(
    main: Path, packages: dict[str, Path], foreign: set[str]
) -> tuple[dict[str, Module], dict[str, str]]:
    """Return the modules of the firmware, by name, and what became of private names."""
    reader = Reader(main, packages)
    reader.read("main")
    constants = Constants(reader.modules)
    for module in reader.modules.values():
        constants.place(module)
    modules = reader.modules
    codes = DropCodes(modules)
    for module in modules.values():
        module.tree = codes.visit(module.tree)
    while True:
        before = sum(len(ast.dump(module.tree)) for module in modules.values())
        live = Live(modules, constants.whole)
        for module in modules.values():
            Drop(live, module)
        modules = reached(modules)
        if sum(len(ast.dump(module.tree)) for module in modules.values()) == before:
            flat = Flatten(modules, foreign).modules
            return flat, Shorten(flat, foreign).names


def reached(modules: dict[str, Module]) -> dict[str, Module]:
    """Return the modules that `main` still imports. A package whose modules alone are used is none."""
    found: dict[str, Module] = {}
    todo = ["main"]
    while todo:
        name = todo.pop()
        if name in found or name not in modules:
            continue
        found[name] = modules[name]
        for node in ast.walk(modules[name].tree):
            if isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                wholes = [f"{node.module}.{alias.name}" for alias in node.names]
                todo += [whole if whole in modules else node.module for whole in wholes]
    return found


def write(modules: dict[str, Module], out: Path) -> None:
    """Write the sources into ``out``; files that do not change keep their time."""
    wanted = set()
    for module in modules.values():
        path = out / f"{module.name}.py"
        wanted.add(path)
        text = ast.unparse(ast.fix_missing_locations(module.tree)) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for path in set(out.rglob("*.py")) - wanted:
        path.unlink()


def main() -> None:
    """Run the command line of the docstring."""
    source, out, *rest = sys.argv[1:]
    named = dict(package.split("=", 1) for package in rest if "=" in package)
    foreign = foreign_names([Path(folder) for folder in rest if "=" not in folder])
    modules, names = shrink(Path(source), {name: Path(folder) for name, folder in named.items()}, foreign)
    write(modules, Path(out))
    table = "".join(f"{new} {old}\n" for old, new in names.items())
    Path(out).with_suffix(".names").write_text(table)  # to read a traceback with


if __name__ == "__main__":
    main()
