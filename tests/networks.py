"""Small networks and trainings for tests."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class SmallNet(nn.Module):
    """BatchNorm, Dropout, in-place ReLU: all that a careless observer would disturb."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(6 * 4 * 4, 3)

    def forward(self, images):
        x = F.max_pool2d(self.act(self.bn1(self.conv1(images))), 2)
        x = self.dropout(F.relu(self.conv2(x)))
        return self.fc(x.flatten(1))


def make_training(seed=0):
    """Return a network and an optimizer of its own."""
    torch.manual_seed(seed)
    model = SmallNet()
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


def train_steps(model, optimizer, count, *, each=lambda _: None):
    """Train on random images for *count* steps, calling ``each(loss)`` before each optimizer step.

    Returns:
        The losses.
    """
    losses = []
    for _ in range(count):
        images, labels = torch.randn(8, 1, 8, 8), torch.randint(3, (8,))
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        each(loss)
        optimizer.step()
        losses.append(loss.item())
    return losses


def cut(model, kept):
    """Keep of modules the outputs and inputs that *kept* names, as `Capturer.shrink` is told them.

    Nothing else is made smaller: what belongs together is the caller's affair.
    """
    for name, (outputs, inputs) in kept.items():
        module = model.get_submodule(name)
        axis = int(isinstance(module, nn.ConvTranspose2d))
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for key, tensor in tensors.items():
            small = tensor.detach()
            if outputs is not None and small.ndim:
                small = small.index_select(axis if key == "weight" else 0, torch.tensor(outputs))
            if inputs is not None and key == "weight":
                small = small.index_select(1 - axis, torch.tensor(inputs))
            tensor.grad = None
            # While an old loss is alive PyTorch expects gradients of the old shape, unless the
            # dtype has changed.
            tensor.data = torch.empty(0, dtype=torch.float16)
            tensor.data = small.clone()
    return kept
