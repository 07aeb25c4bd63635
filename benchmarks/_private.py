"""Networks of the comparison of private steps, and the ways to take such a step.

A step here is a forward and a backward pass and what lands in the parameters' gradients: the mean
gradient, or the clipped sum over the number of rows. The optimiser's update is the same for all and
is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from assay.training.batches import Batch
from assay.training.bookkeeping.check import check, choose
from assay.training.bookkeeping.engine import BookKeeping, Clip
from assay.training.bookkeeping.watch import Moving
from assay.training.flat import Flat

Tensor = torch.Tensor
Inputs = dict[str, Tensor]
Gradients = dict[str, Tensor]
MODEL = "model"
RANK, ALPHA = 8, 16.0
#: Opacus' ways of computing gradients of rows, or their norms
MODES = ("hooks", "functorch", "ghost")


class Cnn(nn.Module):
    """Two convolutions and two linear layers (Papernot et al. 2021, arXiv 2007.14191)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 8, 2, padding=3)
        self.second = nn.Conv2d(16, 32, 4, 2)
        self.hidden, self.head = nn.Linear(512, 32), nn.Linear(32, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, 1, 28, 28]` -> `[N, 10]`."""
        x = functional.max_pool2d(torch.tanh(self.first(pixels)), 2, 1)
        x = functional.max_pool2d(torch.tanh(self.second(x)), 2, 1)
        out: Tensor = self.head(torch.tanh(self.hidden(x.flatten(1))))
        return out


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(8, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.last = nn.GroupNorm(8, outputs)
        same = inputs == outputs
        self.short = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.second(functional.relu(self.norm(self.first(x)))))
        return functional.relu(y + self.short(x))


class ResNet8(nn.Module):
    """Three residual blocks with group norms (He et al. 2015, arXiv 1512.03385)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.GroupNorm(8, 16)
        self.blocks = nn.Sequential(_Block(16, 16, 1), _Block(16, 32, 2), _Block(32, 64, 2))
        self.head = nn.Linear(64, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """`[N, 3, 32, 32]` -> `[N, 10]`."""
        x = self.blocks(functional.relu(self.norm(self.stem(pixels))))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class Headed(nn.Module):
    """A transformer of the `transformers` library, pooled, with a linear head."""

    def __init__(self, body: Any, width: int, classes: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(width, classes)

    def forward(self, **inputs: Tensor) -> Tensor:
        """What the body takes -> `[N, classes]`."""
        out: Tensor = self.head(self.body(**inputs).last_hidden_state.mean(1))
        return out


class PeerLora(nn.Module):
    """A linear layer with a low-rank update of two linear layers, as `peft` writes it."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.base = nn.Linear(layer.in_features, layer.out_features)
        self.base.weight, self.base.bias = layer.weight, layer.bias
        rank = layer.lora_A.shape[0]
        self.lora_A = nn.Linear(layer.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, layer.out_features, bias=False)
        self.lora_A.weight = nn.Parameter(layer.lora_A.detach().clone())
        self.lora_B.weight = nn.Parameter(layer.lora_B.detach().clone())
        self.scale = layer.scale

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.scale * self.lora_B(self.lora_A(x))
        return out


@dataclass
class Work:
    """One network and one batch.

    Attributes:
        network: in training mode; what moves requires a gradient.
        inputs: of its forward pass.
        labels: `[N]`.
        peer: makes the network that Opacus gets, of the same function and weights.
        peer_inputs: what that takes: nothing is broadcast over rows, which Opacus does not bear.
    """

    network: nn.Module
    inputs: Inputs
    labels: Tensor
    peer: Callable[[], nn.Module]
    peer_inputs: Inputs

    @property
    def rows(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def moving(self) -> list[str]:
        """Names of the parameters that move."""
        return [name for name, p in self.network.named_parameters() if p.requires_grad]


def _work(network: nn.Module, inputs: Inputs, classes: int, more: Inputs | None = None) -> Work:
    network.train()
    labels = torch.randint(0, classes, (len(next(iter(inputs.values()))),))
    return Work(network, inputs, labels, lambda: copy.deepcopy(network), {**inputs, **(more or {})})


def _minilm(quick: bool) -> Work:
    from transformers import BertConfig, BertModel

    sizes = (
        {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "vocab_size": 99}
        if quick
        else {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
    )
    config = BertConfig(num_attention_heads=2 if quick else 12, **sizes)
    n, length = (3, 8) if quick else (8, 64)
    network = Headed(BertModel(config, add_pooling_layer=False), config.hidden_size, 2)
    ids = torch.randint(1, config.vocab_size, (n, length))
    more = {
        "position_ids": torch.arange(length).repeat(n, 1),
        "token_type_ids": torch.zeros(n, length, dtype=torch.long),
    }
    return _work(network, {"input_ids": ids}, 2, more)


def _lora(quick: bool) -> Work:
    from assay.models.structures._lora import LoRALinear, adapted, attach

    work = _minilm(quick)
    for name, parameter in work.network.named_parameters():
        parameter.requires_grad_(name.startswith("head."))
    for layer in work.network.body.encoder.layer:  # type: ignore[union-attr]
        attention = layer.attention.self
        for role in ("query", "value"):
            setattr(attention, role, attach(getattr(attention, role), RANK, ALPHA, 0.0))
    for _, layer in adapted(work.network):
        nn.init.normal_(layer.lora_B, std=0.02)

    def peer() -> nn.Module:
        network = copy.deepcopy(work.network)
        for name, layer in list(network.named_modules()):
            if isinstance(layer, LoRALinear):
                parent, _, child = name.rpartition(".")
                setattr(network.get_submodule(parent), child, PeerLora(layer))
        return network

    work.peer = peer
    return work


def _vit(quick: bool) -> Work:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=1 if quick else 6,
        num_attention_heads=4,
        intermediate_size=256,
        image_size=28,
        patch_size=4,
        num_channels=1,
    )
    network = Headed(ViTModel(config, add_pooling_layer=False), 64, 10)
    return _work(network, {"pixel_values": torch.randn(3 if quick else 64, 1, 28, 28)}, 10)


def _cnn(quick: bool) -> Work:
    return _work(Cnn(), {"pixels": torch.randn(4 if quick else 256, 1, 28, 28)}, 10)


def _resnet(quick: bool) -> Work:
    return _work(ResNet8(), {"pixels": torch.randn(4 if quick else 64, 3, 32, 32)}, 10)


WORKS: dict[str, Callable[[bool], Work]] = {
    "minilm": _minilm,
    "lora": _lora,
    "vit": _vit,
    "cnn": _cnn,
    "resnet8": _resnet,
}


def make(name: str, quick: bool) -> Work:
    """A network and a batch, the same each time."""
    torch.manual_seed(0)
    return WORKS[name](quick)


class Ours:
    """The step without privacy, and assay's, on the same network and buffers.

    Args:
        work: the network and the batch.
        private: make ready for private steps, as a stage does before its first.
    """

    def __init__(self, work: Work, private: bool = True) -> None:
        self.work = work
        span = torch.arange(work.rows)
        self.flat = Flat(work.network, work.moving, lambda name: (1.0, True))
        moving = Moving.of({MODEL: work.network}, {MODEL: work.moving})
        self.books = BookKeeping(moving, Clip(1.0))
        if private:
            inputs = {key: value[:3] for key, value in work.inputs.items()}
            self.books.odd = check(self.books, work.network, inputs)
            self.books.methods = choose(self.books, work.network, work.inputs)
        self.batch = Batch(work.inputs, work.labels, torch.ones(work.rows), span, span, work.rows)

    def losses(self) -> Tensor:
        """Of rows, `[N]`."""
        out = self.work.network(**self.work.inputs)
        return functional.cross_entropy(out, self.work.labels, reduction="none")

    def plain(self) -> None:
        """Forward, backward, the mean gradient."""
        self.flat.zero_grad()
        self.losses().mean().backward()  # type: ignore[no-untyped-call]

    def private(self, noise: float = 0.0) -> None:
        """The clipped sum, as a stage with `private` computes it, over the number of rows.

        Args:
            noise: noise multiplier; drawn from torch's own generator.
        """
        self.flat.zero_grad()
        with self.books.watching(self.batch):
            losses = self.losses()
        self.books.backward({MODEL: losses}, self.work.rows, {MODEL: self.flat})
        if noise:
            drawn = torch.empty(self.flat.size).normal_()
            self.flat.grads[0].add_(drawn, alpha=noise * self.books.clip.bound)
        self.flat.grads.div_(self.work.rows)

    def gradients(self) -> Gradients:
        """What lies in the parameters' gradients now."""
        table = dict(self.work.network.named_parameters())
        return {name: _there(table[name].grad) for name in self.work.moving}


class Peer:
    """Opacus in one of its modes, on a copy of the network.

    Args:
        work: the network and the batch.
        mode: one of `MODES`.
        clip: bound of a row's gradient.
    """

    def __init__(self, work: Work, mode: str, clip: float) -> None:
        from opacus.grad_sample.utils import wrap_model
        from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

        self.work, ghost = work, mode == "ghost"
        network = work.peer()
        # a copy keeps no views of the buffers that our side's gradients lie in
        for parameter in network.parameters():
            parameter.grad = None
        more = {"max_grad_norm": clip, "use_ghost_clipping": True} if ghost else {}
        self.network = wrap_model(network, mode, **more)
        moving = [p for p in self.network.parameters() if p.requires_grad]
        cls = DPOptimizerFastGradientClipping if ghost else DPOptimizer
        self.optimiser = cls(
            torch.optim.SGD(moving, lr=0.0),
            noise_multiplier=0.0,
            max_grad_norm=clip,
            expected_batch_size=work.rows,
        )
        self.criterion: Any = nn.CrossEntropyLoss()
        if ghost:
            self.criterion = DPLossFastGradientClipping(
                self.network, self.optimiser, self.criterion
            )

    def private(self, noise: float = 0.0) -> None:
        """The step that its documentation shows, up to the optimiser's own."""
        self.optimiser.noise_multiplier = noise
        self.optimiser.zero_grad()
        out = self.network(**self.work.peer_inputs)
        self.criterion(out, self.work.labels).backward()
        self.optimiser.pre_step()

    def gradients(self) -> Gradients:
        """What lies in the parameters' gradients now, by the names of our side."""
        table = {
            name.replace("lora_A.weight", "lora_A").replace("lora_B.weight", "lora_B"): p
            for name, p in self.network._module.named_parameters()
        }
        return {name: _there(table[name].grad) for name in self.work.moving}


def _there(value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError("expected a gradient")
    return value.detach().clone()


def apart(first: Gradients, second: Gradients) -> float:
    """How far two gradients are apart: the L2 norm of the difference over that of the first."""
    wrong = sum(float((first[name] - second[name]).square().sum()) for name in first)
    whole = sum(float(value.square().sum()) for value in first.values())
    return float((wrong / whole) ** 0.5)
