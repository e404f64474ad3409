"""A network of your own, an nn.Module with a skip connection, trained on data of your own by one call, then run in C.

python examples/own_network.py

Started again after it was killed, it goes on where it was, and ends bit for bit as if it had not been.
"""

import shutil
import subprocess
import tempfile

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import spiking_lfp as lfp
from spiking_lfp.deploy.simulator import simulate


class Residual(nn.Module):
    """conv, then conv around which the spikes skip, then dense."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = lfp.LIF(nn.Conv2d(1, 8, 5, stride=2))
        self.block = lfp.LIF(nn.Conv2d(8, 8, 3, padding=1))
        self.head = nn.Sequential(lfp.MaxPool2d(2), lfp.AvgPool2d(2), lfp.Flatten(), lfp.LIF(nn.Linear(8 * 3 * 3, 10)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [T, B, 1, 28, 28] to spikes [T, B, 10]."""
        spikes = self.entry(x)
        # `add` divides the feedback between the two paths by the LFP rule; a plain + would give all of it to both
        out: Tensor = self.head(lfp.add(spikes, self.block(spikes)))
        return out


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = lfp.load_dataset("mnist-subset")
    train = DataLoader(TensorDataset(digits.train_images, digits.train_labels), 100, shuffle=True)
    test = digits.test_images, digits.test_labels
    with tempfile.TemporaryDirectory() as folder:
        run = lfp.fit(Residual(), train, test, out=f"{folder}/run", resume=True, steps=10, epochs=2, lr=5e-3, clip=0.05)
        print(f"test accuracy after two passes: {run.history[-1]['test']['accuracy']:.1%}")
        print(f"the first three are {run.predict(digits.test_images[:3]).names}")
        again = lfp.load_run(f"{folder}/run")
        print(
            f"loaded: {again.evaluate(test).accuracy:.1%}, most often mistaken: {again.evaluate(test).confusion[4, 9]}"
        )
        exported = lfp.export(
            run, (digits.train_images, digits.train_labels), out=f"{folder}/out", to=["artifact", "c"]
        )
        images, labels = digits.test_images.numpy(), digits.test_labels.numpy()
        answers = simulate(exported.network, images).predictions
        print(f"in integers: {np.mean(answers == labels):.1%}")
        if shutil.which("make") and shutil.which("cc"):
            program = exported.files["c"] / "classify"
            subprocess.run(["make", "-C", program.parent, program.name], check=True, capture_output=True)
            lines = subprocess.run([program], input=images.tobytes(), check=True, capture_output=True).stdout
            of_c = [int(line.split()[0]) for line in lines.decode().splitlines()]
            print(f"C gives the same answer for {np.count_nonzero(answers == of_c)} of {len(images)}")
