"""Train in four bits, learn from a recording as a chip would give it, and hand the network to the integer simulator.

python examples/hardware_in_the_loop.py
"""

import torch

from spiking_lfp import (
    LIF,
    AdaptiveClip,
    constant,
    load_dataset,
    mlp,
    propagate,
    recorded,
    run_in_integers,
    spike_count_reward,
)
from spiking_lfp.deploy.quantize import quantize
from spiking_lfp.deploy.simulator import simulate

STEPS = 15
torch.manual_seed(0)
data = load_dataset("mnist-subset")
net = mlp(hidden=(200,))
run_in_integers(net, bits=4)  # the forward pass is that of integer hardware from here on
optimizer, clip = torch.optim.Adam(net.parameters(), 2e-3), AdaptiveClip(net.parameters())

for batch in torch.randperm(len(data.train_images)).split(100)[:40]:
    images, labels = data.train_images[batch].float() / 255, data.train_labels[batch]
    optimizer.zero_grad()
    spikes = net(constant(images, STEPS))
    propagate(spikes, spike_count_reward(spikes, labels) / STEPS)
    clip()
    optimizer.step()

# a chip that records its membranes can take the place of the forward pass; here the network itself plays the chip
x = constant(images, STEPS)
membranes, seen = {}, x
for name, layer in net.named_children():
    if isinstance(layer, LIF):
        state, steps = None, []
        for t in range(STEPS):
            _, state = layer.run(seen[t : t + 1], state)
            steps.append(state.detach())
        membranes[name] = torch.stack(steps)
    seen = layer(seen)
with recorded(net, membranes):
    spikes = net(x)
propagate(spikes, spike_count_reward(spikes, labels) / STEPS)
clip()
optimizer.step()

# what is exported does what was trained, bit for bit
integers, report = quantize(net, data.train_images[:100], data.train_labels[:100], STEPS, data.class_names)
test = data.test_images[:500]
outcome = simulate(integers, test.numpy())
with torch.no_grad():
    trained = net(constant(test.float() / 255, STEPS)).sum(0)
print("output spikes are equal:", torch.equal(torch.from_numpy(outcome.counts), trained.long()))
print(f"accuracy in four bits: {(outcome.predictions == data.test_labels[:500].numpy()).mean():.1%}")
