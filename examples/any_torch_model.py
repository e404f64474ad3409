"""LFP on a non-spiking network: a composite says which rule each layer follows."""

import torch
from torch import Tensor, nn

from spiking_lfp import Composite, Epsilon, Flat, ZPlusZMinus, composite, load_dataset, logit_reward, propagate


class Residual(nn.Module):
    """A model of one's own, with a skip connection and functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 5, stride=2)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8 * 6 * 6, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[B, 10]`."""
        x = torch.relu(self.first(images))
        x = torch.relu(x + self.again(x))
        logits: Tensor = self.last(nn.functional.max_pool2d(x, 2).flatten(1))
        return logits


torch.manual_seed(1)
digits = load_dataset("mnist-subset")
images, labels = digits.train_images.float() / 255, digits.train_labels
model = Residual()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)

# one of the paper's: LFP-epsilon on dense layers, LFP-z+z- on convolutions
rules = composite("epsilon-zplus-zminus")
for batch in torch.randperm(len(labels)).split(50):
    optimizer.zero_grad()
    with rules.applied(model):
        logits = model(images[batch])
    propagate(logits, logit_reward(logits, labels[batch]) / len(batch))
    optimizer.step()

with torch.no_grad():
    right = model(digits.test_images.float() / 255).argmax(1) == digits.test_labels
print(f"test accuracy after one epoch: {right.float().mean():.1%}")

# one's own: by place, by type, by name
own = Composite(Epsilon(), types={nn.Conv2d: ZPlusZMinus()}, positions={0: Flat()}, names={"last": Epsilon(1e-3)})
print(own.rules(model))
