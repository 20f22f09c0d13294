"""The nets of face-api as torch modules, written from their description."""

import numpy as np
import torch

F = torch.nn.functional


def same(x, kernel, stride, value=0.0):
    """TensorFlow's SAME: the larger half of the padding at the bottom and right."""
    pads = []
    for n in (x.shape[3], x.shape[2]):
        extra = max(0, (-(-n // stride) - 1) * stride + kernel - n)
        pads += [extra // 2, extra - extra // 2]
    return F.pad(x, pads, value=value)


def tensor(x):
    return torch.tensor(np.asarray(x))


class TorchNet:
    """The nets by their description; weights by the names of the files."""

    def __init__(self, weights):
        self.w = {name: tensor(x) for name, x in weights.items()}

    def conv(self, x, name, stride=1):
        return F.conv2d(
            x, self.w[f"{name}/filters"].permute(3, 2, 0, 1), self.w[f"{name}/bias"], stride
        )

    def separable(self, x, name, stride=1):
        deep = self.w[f"{name}/depthwise_filter"].permute(2, 3, 0, 1)
        x = F.conv2d(same(x, 3, stride), deep, stride=stride, groups=x.shape[1])
        point = self.w[f"{name}/pointwise_filter"].permute(3, 2, 0, 1)
        return F.conv2d(x, point, self.w[f"{name}/bias"])

    def crops(self, crops):
        x = tensor(crops).float() - torch.tensor([122.782, 117.001, 104.298])
        x = (x / 255).permute(0, 3, 1, 2)
        for d in range(4):
            first = self.conv(same(x, 3, 2), "dense0/conv0", 2) if d == 0 else None
            o1 = F.relu(self.separable(x, f"dense{d}/conv0", 2) if first is None else first)
            o2 = self.separable(o1, f"dense{d}/conv1")
            o3 = self.separable(F.relu(o1 + o2), f"dense{d}/conv2")
            o4 = self.separable(F.relu(o1 + o2 + o3), f"dense{d}/conv3")
            x = F.relu(o1 + o2 + o3 + o4)
        features = F.avg_pool2d(x, 7, 2).flatten(1)
        return features, features @ self.w["fc/weights"] + self.w["fc/bias"]

    def detector(self, pictures):
        x = tensor(pictures).float() - torch.tensor([117.001, 114.697, 97.404])
        x = self.conv((x / 255).permute(0, 3, 1, 2), "conv0")
        for i in range(1, 7):
            x = F.leaky_relu(x, 0.1)
            stride = 1 if i == 6 else 2
            x = F.max_pool2d(same(x, 2, stride, -torch.inf), 2, stride)
            x = self.separable(x, f"conv{i}") if i < 6 else self.conv(x, "conv8")
        return x.permute(0, 2, 3, 1)
