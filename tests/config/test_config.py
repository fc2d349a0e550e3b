"""[tool.stablelint] is read, checked against the rules' signatures, and overruled by the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stablelint import config, rulebook
from stablelint.config import Config
from stablelint.errors import UsageError
from stablelint.finding import Hit, Level
from stablelint.rule import rule
from stablelint.signals import Signals


@rule(code="SL401", summary="softmax over products")
def unscaled_attention(
    signals: Signals, *, min_head_dim: int = 16, factor: float = 0.5, strict: bool = True, kind: str = "all"
) -> Iterator[Hit]:
    yield from ()


@rule(code="SL402", summary="softmax over one element")
def single_softmax(signals: Signals) -> Iterator[Hit]:
    yield from ()


@rule(code="SL101", summary="sigmoids")
def deep_sigmoid_chain(signals: Signals) -> Iterator[Hit]:
    yield from ()


RULES = (deep_sigmoid_chain, unscaled_attention, single_softmax)


@pytest.fixture(autouse=True)
def three_rules(monkeypatch):
    monkeypatch.setattr(rulebook, "rules", lambda: RULES)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a pyproject.toml, as the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        (tmp_path / "pyproject.toml").write_text(f"[tool.stablelint]\n{text}\n")
        return tmp_path

    return write


def enabled(settings: Config) -> list[str]:
    return [found.code for found in RULES if settings.enabled(found)]


def test_everything_is_read(project):
    project(
        'select = ["SL4"]\nignore = ["single-softmax"]\nextend-select = ["SL101"]\nfail-on = "warning"\nprobe = true\n'
        'seeds = 5\ntimeout = 30\nmemory = 2.5\ntargets = ["torchvision:resnet18"]\n'
        "[tool.stablelint.rules.unscaled-attention]\nmin_head_dim = 32\nfactor = 1\n"
        "[tool.stablelint.rules.SL402]\n"
    )
    read = config.load()
    assert enabled(read) == ["SL101", "SL401"]
    assert (read.fail_on, read.probe, read.seeds, read.timeout, read.memory) == (Level.WARNING, True, 5, 30.0, 2.5)
    assert read.targets == ("torchvision:resnet18",)
    assert read.settings(unscaled_attention) == {"min_head_dim": 32, "factor": 1.0}
    assert type(read.settings(unscaled_attention)["factor"]) is float
    assert read.settings(deep_sigmoid_chain) == {}


def test_deep_switches_the_probe_on_and_goes_with_it(project):
    project("deep = true")
    read = config.load()
    assert (read.deep, read.probe) == (True, True)
    assert (read.merged(probe=False).deep, read.merged(probe=False).probe) == (False, False)
    assert Config().merged(deep=True).probe
    assert not Config().merged(probe=True).deep
    with pytest.raises(UsageError, match="deep measurements need the probe"):
        Config().merged(deep=True, probe=False)


def test_without_a_file_everything_is_on(tmp_path):
    read = config.load(start=tmp_path)
    assert enabled(read) == ["SL101", "SL401", "SL402"]
    assert read.fail_on is Level.ERROR


def test_the_nearest_file_with_a_table_counts(project, tmp_path, monkeypatch):
    project('targets = ["sub/model.py:Net", "package.module:build"]\ncheckpoint = "runs/last.ckpt"')
    inner = tmp_path / "sub"
    inner.mkdir()
    (inner / "model.py").touch()
    (inner / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    monkeypatch.chdir(inner)
    read = config.load()
    assert read.source == tmp_path / "pyproject.toml"
    assert read.targets == ("model.py:Net", "package.module:build"), "paths are relative to the file that names them"
    assert read.checkpoint == Path("../runs/last.ckpt")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sellect = []", r'\[tool.stablelint\] sellect: unknown key; did you mean "select"\?$'),
        ('select = "SL4"', "select: must be a list of strings"),
        ('ignore = ["SL7"]', 'ignore: no rule has the code or the name "SL7"'),
        ('ignore = ["unscaled-atention"]', 'did you mean "unscaled-attention"'),
        ('fail-on = "note"', "fail-on: must be one of error, warning, not 'note'"),
        ("probe = 1", "probe: must be true or false, not 1"),
        ("seeds = 2.0", "seeds: must be a whole number, not 2.0"),
        ("seeds = 0", "seeds must be above 0, not 0"),
        ("seeds = true", "seeds: must be a whole number, not True"),
        ("timeout = inf", "timeout must be above 0"),
        ("memory = nan", "memory: must be a number"),
        ("checkpoint = 3", "checkpoint: must be a string, not 3"),
        ("rules = 3", "rules: must hold one table for each rule"),
        ("rules.unscaled-attention = 3", "rules: unscaled-attention must be a table"),
        ("rules.unscaled-atention.factor = 3", 'did you mean "unscaled-attention"'),
        ("rules.SL401.min_head_dims = 3", 'SL401 has no threshold "min_head_dims"; did you mean "min_head_dim"'),
        ("rules.SL401.min_head_dim = 3.5", "SL401: min_head_dim must be a whole number, not 3.5"),
        ("rules.SL401.strict = 'yes'", "strict must be true or false"),
        ("rules.SL401.kind = 3", "kind must be a string"),
        ("select = [", "is not valid TOML"),
    ],
)
def test_mistakes_are_one_sentence_with_file_and_key(project, text, sentence):
    folder = project(text)
    with pytest.raises(UsageError, match=sentence) as raised:
        config.load()
    assert str(raised.value).startswith(str(folder / "pyproject.toml"))
    assert "\n" not in str(raised.value)


def test_an_explicit_file_must_exist_and_have_the_table(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        config.load(tmp_path / "none.toml")
    (tmp_path / "empty.toml").touch()
    with pytest.raises(UsageError, match=r"has no \[tool.stablelint\]"):
        config.load(tmp_path / "empty.toml")


def test_hyphens_in_thresholds_are_accepted(project):
    project("rules.unscaled-attention.min-head-dim = 3")
    assert config.load().settings(unscaled_attention) == {"min_head_dim": 3}


def test_select_of_the_command_line_replaces_the_choice_of_the_file():
    file = Config(select=("SL1",), ignore=("SL401",))
    assert enabled(file.merged(select=["SL401"])) == ["SL401"]
    assert enabled(file.merged(extend_select=["SL4"])) == ["SL101", "SL402"]
    assert enabled(Config().merged(ignore=["sl4"])) == ["SL101"]
    assert enabled(file.merged()) == ["SL101"]
    assert enabled(Config(select=("all",))) == ["SL101", "SL401", "SL402"]


def test_merged_keeps_what_is_not_given_and_checks_the_rest():
    merged = Config(seeds=5, probe=True).merged(timeout=3.0, seeds=None, probe=False)
    assert (merged.seeds, merged.timeout, merged.probe) == (5, 3.0, False)
    with pytest.raises(UsageError, match="timeout must be above 0"):
        Config().merged(timeout=-1.0)
    with pytest.raises(UsageError, match="did you mean"):
        Config().merged(select=["unscaled-atention"])
