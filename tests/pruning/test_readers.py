"""What readers of a layer see over the probe, and how what goes is folded into them."""

import pytest
import torch
from torch import nn

from tests.pruning.trainings import images, outputs, plan_for, pruned


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 3), (4, 2), (1, 1)])
def test_a_constant_is_taken_by_a_transposed_convolution(kernel, stride):
    """Of its taps each position hears as many as the stride leaves: outputs do not change."""
    torch.manual_seed(0)
    padding = (kernel - stride) // 2
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 5, kernel, stride, padding),
        nn.ReLU(),
        nn.Conv2d(5, 2, 1),
    )
    with torch.no_grad():
        model[0].weight[2], model[0].bias[2] = 0.0, 1.0
        # Alike in every tap; where the image ends, an overlapping kernel would hear less.
        model[2].weight[2] = model[2].weight[2, :, :1, :1]
    plan = plan_for(model, "0", filters=(2,), threshold=None)

    (found,) = plan.layers
    assert (found.mode, found.merges[0].shift) == ("merge", "2")
    new, small = images(seed=2), pruned(model, plan)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(
        outputs(small, new)[inner], outputs(model, new)[inner], atol=1e-6, rtol=1e-5
    )


def test_a_reader_may_be_called_by_keyword():
    """As in ``self.conv2(input=x)``: convolution, BatchNorm and Linear alike."""

    class Keywords(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3)
            self.conv2 = nn.Conv2d(4, 5, 3, bias=False)
            self.norm = nn.BatchNorm2d(5)
            self.fc = nn.Linear(5, 2)

        def forward(self, x):
            x = self.norm(input=self.conv2(input=torch.relu(self.conv1(x))))
            return self.fc(input=torch.relu(x).mean((2, 3)))

    torch.manual_seed(0)
    plan = plan_for(Keywords(), ["conv1", "conv2"], count=1, threshold=None)

    assert [each.merges[0].shift for each in plan.layers] == ["norm", "fc"]
