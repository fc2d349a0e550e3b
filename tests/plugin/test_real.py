"""The plugin with the real check, as a user has it."""

from __future__ import annotations

import pytest

MODELS = """
import pytest, torch
from torch import nn

torch.set_num_threads(1)

def mlp(activation, layers):
    return nn.Sequential(*(module for _ in range(layers) for module in (nn.Linear(16, 16), activation())))

X = torch.randn(8, 16)
"""

BROKEN = """
def test_sigmoids(stablelint):
    stablelint.assert_stable(mlp(nn.Sigmoid, 20), X, seeds=1)
"""

HEALTHY = """
@pytest.mark.stability(fail_on="warning", seeds=1, gradient_ratio=(1e-2, 1e2))
@pytest.mark.parametrize("layers", [2, 3])
def test_short(stablelint, layers):
    net = mlp(nn.GELU, layers)
    before = [parameter.clone() for parameter in net.parameters()]
    report = stablelint.assert_stable(net, X)
    assert all(map(torch.equal, before, net.parameters()))
    assert report.signals["source"] == "measured"
"""


FED = """
from torch.utils.data import DataLoader, TensorDataset

def test_fed(stablelint):
    data = TensorDataset(torch.randn(32, 16), torch.arange(32) % 16)
    loss = nn.CrossEntropyLoss()
    stablelint.assert_stable(mlp(nn.GELU, 3), DataLoader(data, batch_size=8, shuffle=True), loss=loss, batches=2)
    stablelint.assert_stable(mlp(nn.GELU, 3), X, torch.arange(8), loss=loss)
"""

IGNORED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(20))

    def forward(self, x):
        for layer in self.layers:
            x = torch.sigmoid(layer(x))  # stablelint: ignore[deep-sigmoid-chain] kept as a warning to others
        return x

def test_comment(stablelint):
    stablelint.assert_stable(Net(), X, seeds=1, ignore="SL9")
"""

TIMED = """
def test_timed(stablelint, benchmark):
    net = mlp(nn.GELU, 2)
    stablelint.check(net, X, seeds=1)
    benchmark(net, X)
    assert benchmark.extra_info["stablelint"]["Sequential"]["finite"] is True
"""

WRONG = """
import pytest

@pytest.mark.stability(seed=1)
def test_wrong(stablelint):
    pass
"""


def test_a_broken_model_fails_and_a_healthy_or_ignored_one_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MODELS + BROKEN + HEALTHY + FED + IGNORED)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["Sequential is not stable: * error*", "*SL101 deep-sigmoid-chain*"])


def test_under_xdist_with_benchmarks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_right=MODELS + HEALTHY + TIMED, test_wrong=WRONG)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "1", "--continue-on-collection-errors")
    result.stdout.fnmatch_lines(['*::test_wrong: the marker stability is wrong: *did you mean "seeds"[?]'])
    result.assert_outcomes(passed=3, errors=1)
