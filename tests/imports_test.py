"""The structure: imports go downwards only, and the root holds commands and the few modules that belong to all rooms."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tfvae"
COMMANDS = {"train", "evaluate", "train_classifier", "sample", "project", "export", "serve", "study"}
# From the ground up; rooms of one floor do not know each other.
FLOORS = (
    {"command"},
    {"config"},
    {"networks", "data", "endpoint"},
    {"objectives"},
    {"scoring"},
    {"drawing"},
    {"training"},
    {"publishing"},
    {"studies", "library"},
    COMMANDS,
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """Every tfvae module that a file imports, at the top or inside of functions: "scoring.protocol", …"""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("tfvae.") for name in names if name.startswith("tfvae."))


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards_only(path):
    room = room_of(path)
    for name in imported(path):
        other = name.split(".")[0]
        assert other not in COMMANDS, f"nothing imports a command: {path} imports tfvae.{name}"
        assert other == room or FLOOR[other] < FLOOR[room], f"{path} imports tfvae.{name}, which is not below"


def test_the_root_holds_commands_and_what_all_of_them_need():
    assert {path.stem for path in PACKAGE.glob("*.py")} == COMMANDS | {"__init__", "library", "config", "command"}


def test_modules_of_one_room_do_not_import_each_other_in_a_circle():
    graph = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): set(imported(path)) for path in FILES}
    # `from tfvae.data.split import Split` names the module and what is taken from it.
    graph = {name: {n if n in graph else n.rpartition(".")[0] for n in names} for name, names in graph.items()}
    done, path = set(), []

    def visit(name):
        assert name not in path, " imports ".join([*path[path.index(name) :], name])
        if name not in done and name in graph:
            path.append(name)
            for other in sorted(graph[name]):
                visit(other)
            done.add(path.pop())

    for name in sorted(graph):
        visit(name)
