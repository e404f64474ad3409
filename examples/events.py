"""From a recording to a trained network: digits seen by a moving event camera, read by a recurrent layer.

Recordings from files come by `read_events(path)` instead.

python examples/events.py
"""

import torch
from torch import Tensor, nn

from spiking_lfp import (
    LIF,
    AdaptiveClip,
    Flatten,
    RecurrentLIF,
    event_frames,
    load_dataset,
    propagate,
    saccade_events,
    spike_count_reward,
)

STEPS = 10
digits = load_dataset("mnist-subset")


def sequences(images: Tensor) -> Tensor:
    """Return the events of each image, seen by the moving camera, as spikes [T, B, 2, 34, 34]."""
    recordings = [saccade_events(image.numpy()) for image in images]
    frames = [torch.from_numpy(event_frames(each.events, each.sensor, STEPS)) for each in recordings]
    return torch.stack(frames, dim=1).float()


train, test = sequences(digits.train_images[:2000]), sequences(digits.test_images[:300])
torch.manual_seed(0)
net = nn.Sequential(
    Flatten(),
    RecurrentLIF(nn.Linear(2 * 34 * 34, 200), threshold=0.3),
    LIF(nn.Linear(200, 10), threshold=0.3),
)
optimizer, clip = torch.optim.Adam(net.parameters(), 3e-3), AdaptiveClip(net.parameters())
for epoch in range(4):
    for batch in torch.randperm(train.shape[1]).split(50):
        optimizer.zero_grad()
        spikes = net(train[:, batch])
        propagate(spikes, spike_count_reward(spikes, digits.train_labels[batch]) / STEPS)
        clip()
        optimizer.step()
    with torch.no_grad():
        correct = net(test).sum(0).argmax(-1) == digits.test_labels[:300]
    print(f"epoch {epoch + 1}: test accuracy {correct.float().mean():.1%}")
