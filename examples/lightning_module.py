"""LFP inside a LightningModule: optimisation by hand, the rest is Lightning's.

pip install 'spiking-lfp[lightning]' && python examples/lightning_module.py
"""

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from spiking_lfp import constant, load_dataset, mlp, spike_count_reward


class Digits(lightning.LightningModule):
    """An MLP of LIF neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = mlp(hidden=(300,))

    def training_step(self, batch: list[Tensor], index: int) -> None:
        """Hand the reward back and update once."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        optimizer.zero_grad()
        spikes = self.net(constant(batch[0], steps=10))
        self.manual_backward(spikes, gradient=spike_count_reward(spikes, batch[1]) / 10)  # Lightning's `propagate`
        optimizer.step()

    def test_step(self, batch: list[Tensor], index: int) -> None:
        """Count what is classified right."""
        right = self.net(constant(batch[0], steps=10)).sum(0).argmax(-1) == batch[1]
        self.log("accuracy", right.float().mean(), batch_size=len(right))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Any optimiser does."""
        return torch.optim.Adam(self.parameters(), lr=2e-3)


lightning.seed_everything(0, verbose=False)
digits = load_dataset("mnist-subset")
train = TensorDataset(digits.train_images / 255, digits.train_labels)
test = TensorDataset(digits.test_images / 255, digits.test_labels)
trainer = lightning.Trainer(
    max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
)
module = Digits()
trainer.fit(module, DataLoader(train, batch_size=100, shuffle=True))
[outcome] = trainer.test(module, DataLoader(test, batch_size=500), verbose=False)
print(f"test accuracy after one pass: {outcome['accuracy']:.1%}")
