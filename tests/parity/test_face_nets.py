"""The face nets against torch modules written from their description, with random weights.

The weights go through a file of TensorFlow.js, so its reader and the tables are tested as well.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tfjs_release import face_shapes, random_weights, write_tfjs

from data_pipeline.media.face_crops import resize_square
from emojax.model.encoders.face_api import FaceNetConfig, depthwise_conv, make_net, max_pool
from emojax.weights.face_nets import load_face_net

torch = pytest.importorskip("torch")
from torch_face_nets import F, TorchNet, same, tensor

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """{net: (ours, its variables, torch's)}."""

    def make(net):
        folder = tmp_path_factory.mktemp(net)
        values = write_tfjs(folder, "net_model", random_weights(face_shapes(net)))
        config = FaceNetConfig(net=net)
        return make_net(config), load_face_net(config, folder), TorchNet(values)

    return {net: make(net) for net in ("expression", "landmarks", "detector")}


def close(ours, theirs):
    theirs = theirs.numpy()
    scale = np.abs(theirs).max()
    assert 0.01 < scale < 1000
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * scale, rtol=1e-4)


def test_crops(nets):
    crops = np.random.default_rng(1).integers(0, 256, (2, 2, 112, 112, 3), np.uint8)
    flat = crops.reshape(4, 112, 112, 3)
    net, variables, reference = nets["expression"]
    read = jax.jit(lambda v, x: net.apply(v, x, method="read"))(variables, crops)
    features, scores = reference.crops(flat)
    close(read.features.reshape(4, 256), features)
    close(read.probabilities.reshape(4, 7), scores.softmax(-1))
    found = np.array([[True, False], [True, True]])
    masked = jax.jit(net.apply)(variables, crops, found)
    assert masked.shape == (2, 2, 256)
    np.testing.assert_allclose(masked, read.features * found[:, :, None], atol=1e-6)
    net, variables, reference = nets["landmarks"]
    points = jax.jit(net.apply)(variables, flat[:1])
    close(points.reshape(1, 136), reference.crops(flat[:1])[1])


def test_detector(nets):
    net, variables, reference = nets["detector"]
    pictures = np.random.default_rng(2).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    ours = jax.jit(net.apply)(variables, pictures)
    assert ours.shape == (2, 3, 3, 5, 5)
    close(ours.reshape(2, 3, 3, 25), reference.detector(pictures))


def test_padding_of_convolutions_and_pools():
    x = np.random.default_rng(3).normal(size=(2, 7, 6, 4)).astype(np.float32)
    filters = np.random.default_rng(4).normal(size=(3, 3, 4, 1)).astype(np.float32)
    channels_first = tensor(x).permute(0, 3, 1, 2)
    for stride in (1, 2):
        theirs = F.conv2d(
            same(channels_first, 3, stride),
            tensor(filters).permute(2, 3, 0, 1),
            stride=stride,
            groups=4,
        )
        ours = depthwise_conv(jnp.asarray(x), jnp.asarray(filters), stride=stride)
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1), atol=1e-5)
        grouped = jax.lax.conv_general_dilated(
            x,
            filters.transpose(0, 1, 3, 2),
            (stride, stride),
            "SAME",
            feature_group_count=4,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        np.testing.assert_allclose(ours, grouped, atol=1e-5)
        pooled = F.max_pool2d(same(channels_first, 2, stride, -torch.inf), 2, stride)
        np.testing.assert_array_equal(
            max_pool(jnp.asarray(x), stride=stride), pooled.permute(0, 2, 3, 1)
        )


@pytest.mark.parametrize("shape", [(30, 44), (44, 30), (37, 37), (20, 9)])
def test_pictures_are_resized_from_their_corner(shape):
    """Torch's grid_sample at i * length / size: TensorFlow's resize without half pixels."""
    picture = np.random.default_rng(5).integers(0, 256, (*shape, 3), np.uint8)
    side, size = max(shape), 16
    for centred in (False, True):
        before = [(side - n) // 2 if centred else 0 for n in shape]
        after = [side - n - b for n, b in zip(shape, before, strict=True)]
        square = np.pad(picture, ((before[0], after[0]), (before[1], after[1]), (0, 0)))
        place = torch.arange(size, dtype=torch.float64) * side / size
        grid = (2 * place + 1) / side - 1
        theirs = F.grid_sample(
            tensor(square).double().permute(2, 0, 1)[None],
            torch.stack(torch.meshgrid(grid, grid, indexing="xy"), -1)[None],
            align_corners=False,
            padding_mode="border",
        )
        ours = resize_square(picture[None], size, centred=centred)
        np.testing.assert_allclose(ours[0], theirs[0].permute(1, 2, 0), atol=1e-3)
