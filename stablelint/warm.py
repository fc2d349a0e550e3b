"""What a worker does once, before it forks a process for each job: what every check needs first is then there."""

from __future__ import annotations


def warm_up() -> None:
    """Import what a check needs and check one small model, so that tables made at their first use are made here.

    Nothing of it is left that a check could see, and no thread is started: this process will fork.
    """
    import torch
    import torch.distributed.tensor  # which the first relu of a fake tensor imports
    from torch import nn

    import stablelint.jobs
    import stablelint.targets.build  # noqa: F401 (for the jobs to find)
    from stablelint import api
    from stablelint.inputs import Inputs
    from stablelint.targets.attempt import Attempts
    from stablelint.targets.inputs import infer
    from stablelint.targets.loading import settle
    from stablelint.targets.source import seed_everything
    from stablelint.trace import caches, observe_build
    from stablelint.trace.dynamo import put_off

    torch.set_num_threads(1)  # before any op, or there is a pool of threads
    put_off()
    settle()
    with torch.random.fork_rng(devices=[]):
        seed_everything(0)
        with observe_build() as origins:
            model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        inputs = Inputs(torch.randn(4, 8))
        infer(model, Attempts(model, lambda: model), "model")  # reads the source of torch's layers
        api.check_model(model, inputs, origins=origins)
    caches.settle()
