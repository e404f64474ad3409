"""Slow, obvious replicas of the mathematics, in float64: one neuron and one step at a time, no vector tricks.

Written from the papers' formulas, not from the package. Layout: `[T, B, N]`, with samples flattened to N values.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from spiking_lfp import Epsilon


def per_neuron(value: float | Tensor, neurons: int) -> list[float]:
    """One number for each neuron, from a scalar or from a tensor of one value per neuron."""
    values = torch.as_tensor(value, dtype=torch.float64).flatten().tolist()
    return values * neurons if len(values) == 1 else values


def lif_forward(
    current: Tensor, beta: float | Tensor, threshold: float | Tensor, reset: str, initial: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Spikes and membranes `[T, B, N]` of LIF neurons (LFP eq. A.14, A.15)."""
    steps, batch, neurons = current.shape
    decay, theta = per_neuron(beta, neurons), per_neuron(threshold, neurons)
    spikes, membranes = torch.zeros_like(current), torch.zeros_like(current)
    for b, n in product(range(batch), range(neurons)):
        u, s = 0.0, 0.0
        if initial is not None:
            u = initial[b, n].item()
            s = 1.0 if u - theta[n] > 0 else 0.0
        for t in range(steps):
            arrived = current[t, b, n].item()
            if reset == "subtract":
                u = decay[n] * u + arrived - theta[n] * s
            elif reset == "zero":
                u = decay[n] * u * (1 - s) + arrived
            elif reset == "none":
                u = decay[n] * u + arrived
            s = 1.0 if u - theta[n] > 0 else 0.0
            spikes[t, b, n], membranes[t, b, n] = s, u
    return spikes, membranes


def lif_feedback(
    current: Tensor,
    spikes: Tensor,
    membranes: Tensor,
    on_spikes: Tensor,
    on_final: Tensor | None,
    beta: float | Tensor,
    threshold: float | Tensor,
    reset: str,
    epsilon: float,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`q` `[T, B, N]` and the feedback on the initial membrane `[B, N]`, by LFP-epsilon through time.

    rho[t] = r_S[t] + m[t+1], q[t] = rho[t] / (|U[t-1]| + |V[t] - U[t-1]| + eps), m[t] = beta * U[t-1] * q[t]
    (reset "zero": only what survived the reset is handed on), with V[t] = beta * U[t-1] + I[t].
    """
    steps, batch, neurons = current.shape
    decay, theta = per_neuron(beta, neurons), per_neuron(threshold, neurons)
    q, on_initial = torch.zeros_like(current), torch.zeros_like(current[0])
    for b, n in product(range(batch), range(neurons)):
        m = 0.0 if on_final is None else on_final[b, n].item()
        for t in reversed(range(steps)):
            if t > 0:
                u, s = membranes[t - 1, b, n].item(), spikes[t - 1, b, n].item()
            else:
                u = 0.0 if initial is None else initial[b, n].item()
                s = 1.0 if u - theta[n] > 0 else 0.0
            v = decay[n] * u + current[t, b, n].item()
            rho = on_spikes[t, b, n].item() + m
            q_t = rho / (abs(u) + abs(v - u) + epsilon)
            q[t, b, n] = q_t
            m = decay[n] * u * q_t
            if reset == "zero":
                m *= 1 - s
        on_initial[b, n] = m
    return q, on_initial


@dataclass
class Wires:
    """A synapse as what it is: wires from inputs to outputs, several of which may share one weight.

    Attributes:
        wires: (output, input, index of the weight) of each.
        biases: for each output the index of its bias.
        outputs: the shape of one sample's outputs.
    """

    wires: list[tuple[int, int, tuple[int, ...]]]
    biases: list[int]
    outputs: tuple[int, ...]


def wires_of(synapse: nn.Module, in_shape: tuple[int, ...]) -> Wires:
    if isinstance(synapse, nn.Linear):
        pairs = product(range(synapse.out_features), range(synapse.in_features))
        return Wires([(o, i, (o, i)) for o, i in pairs], list(range(synapse.out_features)), (synapse.out_features,))
    transposed = isinstance(synapse, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    assert transposed or isinstance(synapse, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    channels, *sides = in_shape
    kernel, stride, dilation = synapse.kernel_size, synapse.stride, synapse.dilation
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    before = synapse.padding
    total = [2 * pad for pad in before] if not isinstance(before, str) else [0] * len(sides)
    if before == "valid":
        before = [0] * len(sides)
    elif before == "same":  # the odd one comes last
        before, total = [each // 2 for each in reach], reach
    axes = range(len(sides))
    if transposed:
        outs = [(sides[a] - 1) * stride[a] - total[a] + reach[a] + synapse.output_padding[a] + 1 for a in axes]
    else:
        outs = [(sides[a] + total[a] - reach[a] - 1) // stride[a] + 1 for a in axes]
    group_in, group_out = channels // synapse.groups, synapse.out_channels // synapse.groups
    outputs = list(product(range(synapse.out_channels), *map(range, outs)))
    place_of = {place: number for number, place in enumerate(outputs)}
    wires = []
    if transposed:  # every input paints a kernel
        for i, (source, *at) in enumerate(product(range(channels), *map(range, sides))):
            for c, *tap in product(range(group_out), *map(range, kernel)):
                target = [at[a] * stride[a] + tap[a] * dilation[a] - before[a] for a in axes]
                o = place_of.get((source // group_in * group_out + c, *target))
                if o is not None:
                    wires.append((o, i, (source, c, *tap)))
        return Wires(wires, [channel for channel, *_ in outputs], (synapse.out_channels, *outs))
    input_of = {place: number for number, place in enumerate(product(range(channels), *map(range, sides)))}
    for o, (channel, *at) in enumerate(outputs):
        for c, *tap in product(range(group_in), *map(range, kernel)):
            seen = [at[a] * stride[a] + tap[a] * dilation[a] - before[a] for a in axes]
            place = [_padded(seen[a], sides[a], synapse.padding_mode) for a in axes]
            i = input_of.get((channel // group_out * group_in + c, *place))
            if i is not None:
                wires.append((o, i, (channel, c, *tap)))
    return Wires(wires, [channel for channel, *_ in outputs], (synapse.out_channels, *outs))


def _padded(place: int, side: int, mode: str) -> int:
    """The place in `0..side - 1` whose value stands at `place`, or one outside, where there is none."""
    if mode == "circular":
        return place % side
    if mode == "replicate":
        return min(max(place, 0), side - 1)
    if mode == "reflect":
        return side - 1 - abs(side - 1 - abs(place))
    return place


@dataclass
class Result:
    """What a layer gave and handed on, in the shapes of its tensors; updates are to be added to the parameters."""

    output: Tensor
    on_input: Tensor
    weight_update: Tensor
    bias_update: Tensor | None
    final: Tensor | None = None
    on_initial: Tensor | None = None
    recurrent_update: Tensor | None = None


class _Layer:
    def __init__(self, synapse: nn.Module, x: Tensor) -> None:
        self.x = x.detach()
        self.weight = synapse.weight.detach().double()
        self.bias = None if synapse.bias is None else synapse.bias.detach().double()
        self.wires = wires_of(synapse, tuple(x.shape[2:]))
        self.matrix = torch.zeros(len(self.wires.biases), x[0, 0].numel(), dtype=torch.float64)
        for o, i, index in self.wires.wires:
            self.matrix[o, i] += self.weight[index]  # a padded copy is one wire more
        self.flat = self.x.double().flatten(2)
        self.current = self.flat @ self.matrix.T
        if self.bias is not None:
            self.current += self.bias[self.wires.biases]

    def result(self, output: Tensor, q: Tensor) -> Result:
        """Hand `q` through the synapse: r_i = a_i sum_j w_ij q_j, d_ij = |w_ij| a_i q_j (LFP eq. 2-4)."""
        on_input = self.flat * (q @ self.matrix)
        pairs = torch.einsum("tbo,tbi->oi", q, self.flat)
        weight_update = torch.zeros_like(self.weight)
        for o, i, index in self.wires.wires:
            weight_update[index] += self.weight[index].abs() * pairs[o, i]
        bias_update = None
        if self.bias is not None:
            bias_update = torch.zeros_like(self.bias)
            for o, index in enumerate(self.wires.biases):
                bias_update[index] += self.bias[index].abs() * q[:, :, o].sum()
        output = output.view(*self.x.shape[:2], *self.wires.outputs)
        return Result(output, on_input.view_as(self.x), weight_update, bias_update)


def lif_layer(
    synapse: nn.Module,
    x: Tensor,
    on_spikes: Tensor,
    beta: float | Tensor,
    threshold: float | Tensor,
    reset: str,
    epsilon: float,
    initial: Tensor | None = None,
    on_final: Tensor | None = None,
) -> Result:
    """A synapse and its LIF neurons, forward and back."""
    layer = _Layer(synapse, x)
    start = None if initial is None else initial.detach().flatten(1)
    end = None if on_final is None else on_final.flatten(1)
    spikes, membranes = lif_forward(layer.current, beta, threshold, reset, start)
    q, on_initial = lif_feedback(
        layer.current, spikes, membranes, on_spikes.flatten(2), end, beta, threshold, reset, epsilon, start
    )
    result = layer.result(spikes, q)
    shape = result.output.shape[1:]
    result.final, result.on_initial = membranes[-1].view(shape), on_initial.view(shape)
    return result


def recurrent_layer(
    synapse: nn.Linear,
    recurrent: Tensor,
    x: Tensor,
    on_spikes: Tensor,
    beta: float | Tensor,
    threshold: float | Tensor,
    reset: str,
    gain: Callable[[float, float], float],
    initial: Tensor | None = None,
    on_final: Tensor | None = None,
) -> Result:
    """LIF neurons that see each other's spikes of the step before, forward and back.

    U[t] = beta * U[t-1] + W x[t] + b + V S[t-1] - threshold * S[t-1]. `gain` is one over the normaliser of V[t], the
    membrane before the reset, and U[t-1].
    """
    layer = _Layer(synapse, x)
    steps, batch, neurons = layer.current.shape
    decay, theta = per_neuron(beta, neurons), per_neuron(threshold, neurons)
    v = recurrent.detach().double().tolist()
    # time -1 is the last place of these lists
    u = [[[0.0] * neurons for _ in range(batch)] for _ in range(steps + 1)]
    s = [[[0.0] * neurons for _ in range(batch)] for _ in range(steps + 1)]
    z = [[[0.0] * neurons for _ in range(batch)] for _ in range(steps)]  # before the reset
    for b, n in product(range(batch), range(neurons)):
        u[-1][b][n] = 0.0 if initial is None else initial[b, n].item()
        s[-1][b][n] = 1.0 if u[-1][b][n] > theta[n] else 0.0
    for t, b, n in product(range(steps), range(batch), range(neurons)):
        before, fired = u[t - 1][b][n], s[t - 1][b][n]
        seen = sum(v[n][j] * s[t - 1][b][j] for j in range(neurons))
        z[t][b][n] = decay[n] * before + layer.current[t, b, n].item() + seen
        taken = {"subtract": theta[n] * fired, "zero": decay[n] * before * fired, "none": 0.0}[reset]
        u[t][b][n] = z[t][b][n] - taken
        s[t][b][n] = 1.0 if u[t][b][n] > theta[n] else 0.0

    q = torch.zeros(steps + 1, batch, neurons, dtype=torch.float64)  # nothing comes after the last step
    m = torch.zeros(steps + 1, batch, neurons, dtype=torch.float64)
    if on_final is not None:
        m[steps] = on_final
    pairs = torch.zeros(neurons, neurons, dtype=torch.float64)
    for t, b, n in product(reversed(range(steps)), range(batch), range(neurons)):
        before = u[t - 1][b][n]
        asked = s[t][b][n] * sum(v[k][n] * q[t + 1, b, k].item() for k in range(neurons))
        q[t, b, n] = (on_spikes[t, b, n].item() + asked + m[t + 1, b, n].item()) * gain(z[t][b][n], before)
        survived = before * (1 - s[t - 1][b][n]) if reset == "zero" else before
        m[t, b, n] = decay[n] * survived * q[t, b, n]
        for j in range(neurons):
            pairs[n, j] += q[t, b, n].item() * s[t - 1][b][j]
    result = layer.result(torch.tensor(s[:-1], dtype=torch.float64), q[:-1])
    result.final = torch.tensor(u[steps - 1], dtype=torch.float64)
    result.recurrent_update = recurrent.detach().double().abs() * pairs
    result.on_initial = m[0].clone()
    for b, n in product(range(batch), range(neurons)):  # a spike and its membrane are one neuron: feedback adds up
        result.on_initial[b, n] += s[-1][b][n] * sum(v[k][n] * q[0, b, k].item() for k in range(neurons))
    return result


def affine_layer(synapse: nn.Module, x: Tensor, feedback: Tensor, epsilon: float) -> Result:
    """A synapse without neurons: q_j = sign(z_j) r_j / (|z_j| + eps) (LFP eq. 8, 9)."""
    layer = _Layer(synapse, x)
    z = layer.current
    return layer.result(z, z.sign() * feedback.flatten(2) / (z.abs() + epsilon))


def avg_pool(
    x: Tensor,
    feedback: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    epsilon: float,
    weight: float,
) -> tuple[Tensor, Tensor]:
    """The mean, or sum, and the feedback on `x`: a convolution, channel by channel, whose weights are all the same."""
    channels = x.shape[2]
    kind = [nn.Conv1d, nn.Conv2d, nn.Conv3d][len(kernel) - 1]
    mean = kind(channels, channels, kernel, stride, padding, groups=channels, bias=False).double()
    nn.init.constant_(mean.weight, weight)
    result = affine_layer(mean, x, feedback, epsilon)
    return result.output, result.on_input


def add(a: Tensor, b: Tensor, feedback: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The feedback on the two terms of a sum."""
    z = a + b
    q = z.sign() * feedback / (z.abs() + epsilon)
    return a * q, b * q


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def spike_count_reward(spikes: Tensor, labels: Tensor) -> Tensor:
    """LFP eq. A.16, entry by entry."""
    steps, batch, classes = spikes.shape
    reward = torch.zeros(steps, batch, classes, dtype=torch.float64)
    for t, b, c in product(range(steps), range(batch), range(classes)):
        o = [spikes[s, b, c].item() for s in range(steps)]
        if c == labels[b]:
            reward[t, b, c] = 1 - sigmoid(sum(o) - steps / 2)
        else:
            reward[t, b, c] = -o[t] * (1 - sigmoid(sum(abs(value - 1) for value in o) - steps / 2))
    return reward


def _one_reward(name: str, o: list[list[float]], t: int, c: int, y: list[float]) -> float:
    """The reward of output c at step t of one sample, `o` by step and class, whose outputs shall be `y`."""
    steps, own = len(o), [step[c] for step in o]
    if name == "spike-count":
        true = 1 - sigmoid(sum(own) - steps / 2)
        wrong = -own[t] * (1 - sigmoid(sum(abs(value - 1) for value in own) - steps / 2))
        return y[c] * true + (1 - y[c]) * wrong
    if name == "spike-rate":
        rate = sum(own) / steps
        return y[c] - rate if rate < y[c] else -own[t] * (rate - y[c])
    if name == "logit":
        return own[t] * (y[c] - sigmoid(own[t]))
    if name == "squared-error":
        return own[t] * (y[c] - sum(own) / steps)
    if name in ("softmax", "cross-entropy"):
        means = [sum(step[k] for step in o) / steps for k in range(len(y))]
        shown = means if name == "softmax" else o[t]
        share = math.exp(shown[c]) / sum(math.exp(value) for value in shown)
        return (y[c] - share) * (own[t] if name == "softmax" else 1)
    assert name == "correctness"
    return y[c] if y[o[t].index(max(o[t]))] == max(y) else -y[c]


REWARDS = ("spike-count", "spike-rate", "logit", "squared-error", "softmax", "cross-entropy", "correctness")


def reward(name: str, outputs: Tensor, targets: Tensor, weights: Tensor | None, window: int | None) -> Tensor:
    """A reward of outputs `[T, B, C, *places]`, entry by entry; targets -1 and NaN earn nothing."""
    found = torch.zeros_like(outputs)
    steps, batch, classes, *places = outputs.shape
    length = steps if window is None else window
    targets = targets.unsqueeze(0) if window is None else targets
    indices = targets.dim() == outputs.dim() - 1
    for k, b, *place in product(range(steps // length), range(batch), *map(range, places)):
        times = range(k * length, (k + 1) * length)
        o = [[outputs[(t, b, c, *place)].item() for c in range(classes)] for t in times]
        if indices:
            label = int(targets[(k, b, *place)])
            given = [math.nan if label == -1 else float(c == label) for c in range(classes)]
        else:
            given = [targets[(k, b, c, *place)].item() for c in range(classes)]
        if name in ("softmax", "cross-entropy") and any(map(math.isnan, given)):
            continue
        y = [0.0 if math.isnan(value) else value for value in given]
        for t, c in product(range(length), range(classes)):
            scale = 1.0
            if weights is not None and indices:
                scale = weights[label].item()
            elif weights is not None:
                scale = 1 + y[c] * (weights[c].item() - 1)
            if not math.isnan(given[c]):
                found[(times[t], b, c, *place)] = scale * _one_reward(name, o, t, c, y)
    return found


class Recursions:
    """The two recursions of neurons whose state is the membrane alone, as functions of plain tensors.

    Args:
        kernels: the module that holds them; the reference if None.
    """

    def __init__(self, kernels: Any = None) -> None:
        self.kernels = kernels

    def forward(self, current: Tensor, steps: int, neuron: Any, initial: Tensor | None) -> tuple[Tensor, Tensor, Any]:
        run = type(neuron).forward if self.kernels is None else self.kernels.forward
        spikes, (final,), trace = run(neuron, current, steps, None if initial is None else (initial,))
        return spikes, final, trace

    def feedback(
        self, trace: Any, reward: Tensor, on_final: Tensor | None, rule: Any, summed: bool, parts: Any = None
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        run = trace.neuron.feedback if self.kernels is None else self.kernels.feedback
        q, (on_initial,) = run(trace, reward, None if on_final is None else (on_final,), rule, summed, parts)
        return q, on_initial

    def feedback_epsilon(
        self, trace: Any, reward: Tensor, on_final: Tensor | None, epsilon: float, summed: bool = False
    ) -> tuple[Tensor, Tensor]:
        ends = None if on_final is None else (on_final,)
        (q,), (on_initial,) = self.kernels.feedback_epsilon(trace, reward, ends, Epsilon(epsilon), summed, None)
        return q, on_initial


def one_q(found: tuple[tuple[Tensor, ...], Tensor]) -> tuple[Tensor, Tensor]:
    """Return `q` and feedback of `lif.feedback` with a rule that treats all contributions alike."""
    (q,), carried = found
    return q, carried
