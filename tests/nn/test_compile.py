"""`torch.compile` keeps out of layers, without a complaint, and compiles what stands between them."""

import subprocess
import sys

# in a process of its own: here every annotation is checked at run time, which is nothing to compile
SCRIPT = """
import torch
from spiking_lfp import constant, lenet, propagate, spike_count_reward
torch.manual_seed(0)
network = lenet(channels=(2, 3), hidden=(20,), threshold=0.2)
x, labels = constant(torch.rand(3, 1, 28, 28), 9), torch.tensor([0, 1, 4])
outcomes = []
for net in (network, torch.compile(network, backend="aot_eager")):
    network.zero_grad()
    spikes = net(x)
    propagate(spikes, spike_count_reward(spikes, labels))
    outcomes.append([spikes, *(parameter.grad for parameter in network.parameters())])
assert outcomes[0][0].any()
assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))
"""


def test_compiled_networks_do_the_same() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
