"""Where a user's file finds the other modules of its repository."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from stablelint.targets.imports.finder import UserFinder
from stablelint.targets.imports.folders import above, repository
from stablelint.targets.imports.placeholder import Placeholder
from stablelint.targets.loading import load_file, settle

Write = Callable[..., str]


@pytest.fixture
def load(user_folder: Path) -> Callable[[str], ModuleType]:
    def load(name: str) -> ModuleType:
        settle()
        return load_file(user_folder / name).module

    return load


def test_relative_imports_work_in_packages_and_in_folders_that_are_none(
    write: Write, load: Callable[[str], ModuleType]
) -> None:
    for folder, init in (("pkg", True), ("bare", False)):
        if init:
            write(f"{folder}/__init__.py", "")
            write(f"{folder}/sub/__init__.py", "")
        write(f"{folder}/sizes.py", "WIDTH = 3\n")
        write(f"{folder}/sub/deep.py", "from .near import DEPTH\n")
        write(f"{folder}/sub/near.py", "from ..sizes import WIDTH\nDEPTH = WIDTH + 1\n")
        source = """
            from . import sizes
            from .sub.deep import DEPTH
            from .sub import near as other
            def late():
                from .sizes import WIDTH
                return WIDTH
            """
        write(f"{folder}/model.py", source)
        module = load(f"{folder}/model.py")
        assert (module.sizes.WIDTH, module.DEPTH, module.late()) == (3, 4, 3)
        assert module.other.DEPTH == 4


def test_a_script_at_the_root_of_its_repository_may_import_relatively(
    write: Write, load: Callable[[str], ModuleType]
) -> None:
    write("a repo/__init__.py", "WIDTH = 5\n")
    write("a repo/layers.py", "DEPTH = 2\n")
    write("a repo/main.py", "from . import WIDTH\nfrom .layers import DEPTH\n")
    module = load("a repo/main.py")
    assert (module.WIDTH, module.DEPTH) == (5, 2)


def test_modules_are_found_from_the_root_of_the_repository_and_in_its_src(
    write: Write, load: Callable[[str], ModuleType], user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("repo/pyproject.toml", "", imports=False)
    write("repo/models/layers.py", "WIDTH = 3\n")
    write("repo/models/models.py", "")
    write("repo/src/tools/__init__.py", "DEPTH = 2\n")
    write("repo/models/sub/net.py", "from models.layers import WIDTH\nfrom tools import DEPTH\n")
    (user_folder / "elsewhere").mkdir()
    monkeypatch.chdir(user_folder / "elsewhere")
    module = load("repo/models/sub/net.py")
    assert (module.WIDTH, module.DEPTH) == (3, 2)
    assert repository(user_folder / "repo" / "models" / "sub") == user_folder / "repo"
    assert user_folder not in above(user_folder / "repo" / "models")


def test_the_nearest_module_is_meant_but_what_is_installed_is_not_hidden_from_above(
    write: Write, load: Callable[[str], ModuleType], user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("repo/setup.py", "")
    write("repo/utils.py", "PLACE = 'root'\n")
    write("repo/models/utils.py", "PLACE = 'near'\n")
    write("repo/psutil/__init__.py", "PLACE = 'root'\n")
    write("repo/models/net.py", "import utils\nimport psutil\n")
    (user_folder / "elsewhere").mkdir()
    monkeypatch.chdir(user_folder / "elsewhere")
    module = load("repo/models/net.py")
    assert module.utils.PLACE == "near"
    assert not hasattr(module.psutil, "PLACE")


def test_of_two_packages_of_a_name_the_one_with_the_module_is_meant(
    write: Write, load: Callable[[str], ModuleType]
) -> None:
    write("train/models/__init__.py", "")
    write("models/__init__.py", "")
    write("models/layers.py", "WIDTH = 3\n")
    write("train/main.py", "from models.layers import WIDTH\n")
    assert load("train/main.py").WIDTH == 3


def test_folders_without_init_lead_to_folders_without_init(write: Write, load: Callable[[str], ModuleType]) -> None:
    write("models/a/b/net.py", "WIDTH = 3\n")
    write("main.py", "from models.a.b.net import WIDTH\nimport models.a.b.net as net\n")
    assert load("main.py").net.WIDTH == load("main.py").WIDTH == 3


def test_libraries_do_not_find_the_users_modules(write: Write, load: Callable[[str], ModuleType]) -> None:
    """``wave`` is Python's own: a user's file of this name is theirs alone."""
    saved = {name: sys.modules.pop(name, None) for name in ("wave", "sndhdr")}
    write("wave.py", "MINE = True\n", imports=False)
    try:
        assert load("wave.py").MINE
        finder = next(each for each in sys.meta_path if isinstance(each, UserFinder))
        namespace = {"finder": finder}
        exec(compile("found = finder.find_spec('wave')", json.__file__, "exec"), namespace)
        assert namespace["found"].origin != str(Path("wave.py").resolve())  # type: ignore[attr-defined]
    finally:
        sys.modules.update({name: module for name, module in saved.items() if module is not None})


def test_a_folder_of_data_hides_no_missing_package(write: Write, load: Callable[[str], ModuleType]) -> None:
    write("wandb_absent/run-1/log.txt", "", imports=False)
    write("model.py", "import wandb_absent\n")
    assert isinstance(load("model.py").wandb_absent, Placeholder)


def test_the_init_of_a_package_may_fail(write: Write, load: Callable[[str], ModuleType]) -> None:
    write("pkg/__init__.py", "import absent\nfrom .gone import x\nregistry = absent.Registry()\nraise SystemExit\n")
    write("pkg/model.py", "from .other import WIDTH\n")
    write("pkg/other.py", "WIDTH = 3\n")
    module = load("pkg/model.py")
    assert (module.WIDTH, module.__name__) == (3, "pkg.model")
    write("broken/__init__.py", "def (:\n")
    write("broken/model.py", "from .other import WIDTH\n")
    write("broken/other.py", "WIDTH = 4\n")
    assert load("broken/model.py").WIDTH == 4


def test_a_checkout_of_an_installed_package_is_meant_by_its_own_files(
    write: Write, load: Callable[[str], ModuleType]
) -> None:
    write("psutil/__init__.py", "")
    write("psutil/mine.py", "WIDTH = 3\n")
    write("psutil/model.py", "from .mine import WIDTH\n")
    assert load("psutil/model.py").WIDTH == 3


def test_an_imported_file_may_be_a_script_of_settings(write: Write, load: Callable[[str], ModuleType]) -> None:
    write("options.py", "class Options:\n    width = 7\ndef read(): return Options()\nopt = read()\nread()\n")
    write("model.py", "import options\nfrom options import opt\n")
    assert load("model.py").opt.width == 7
