"""From a recording to a trained network: digits seen by a moving event camera, read by a recurrent layer.

Recordings from files come by `read_events(path)` instead. At the end the network watches one long recording, window by
window, as it would a camera.

python examples/events.py
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from spiking_lfp import (
    LIF,
    AdaptiveClip,
    Flatten,
    RecurrentLIF,
    Stateful,
    event_frames,
    load_dataset,
    propagate,
    read_stream,
    saccade_events,
    spike_count_reward,
)

STEPS = 10
LASTS_MS = 300  # as long as a recording
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

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.npy"
    recordings = [saccade_events(image.numpy()).events for image in digits.test_images[:100]]
    for number, events in enumerate(recordings):
        events["t"] += 1000 * LASTS_MS * number
    np.save(path, np.concatenate(recordings))
    network, counts = Stateful(net.eval()), torch.zeros(100, 10)
    for number, window in enumerate(read_stream(path, LASTS_MS / STEPS, sensor=(2, 34, 34))):
        if number % STEPS == 0:  # the next digit
            network.reset()
        frame = event_frames(window.events, window.sensor, 1, start=window.start, duration=window.duration)
        spikes = network(torch.from_numpy(frame).float().unsqueeze(1))  # [1, 1, 10]; its states are kept
        counts[number // STEPS] += spikes[0, 0]
    correct = counts.argmax(-1) == digits.test_labels[:100]
    print(f"one long recording: {correct.float().mean():.1%}")
