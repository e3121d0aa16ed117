"""Makes data for the five models of `cargo xtask verify-artifacts` out of Fashion-MNIST: pictures of the sizes that the models take."""

import gzip
import sys
from pathlib import Path

import numpy as np

source, out = Path(sys.argv[1]), Path(sys.argv[2])


def read(name):
    data = gzip.open(source / f"{name}.gz").read()
    dims = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(dims)).reshape(dims)


def resized(x, height, width):
    """Bilinear, on the grid of pixel centres."""
    def along(length, size):
        at = np.clip((np.arange(length) + 0.5) * size / length - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, size - 1), at - low
    a, b, f = along(height, x.shape[1])
    x = x[:, a] * (1 - f[None, :, None]) + x[:, b] * f[None, :, None]
    a, b, f = along(width, x.shape[2])
    return x[:, :, a] * (1 - f) + x[:, :, b] * f


pictures, labels = read("train-images-idx3-ubyte"), read("train-labels-idx1-ubyte").astype(np.int64)


def save(name, count, x, y):
    np.savez(out / f"{name}.npz", x=np.ascontiguousarray(np.round(x[:count]).astype(np.uint8)), y=y[:count])


def colours(x):
    """Three channels that are not alike."""
    return np.stack([x, 255 - x, np.roll(x, 1, axis=2)], axis=1)


save("ds-cnn", 6000, resized(pictures[:6000].astype(np.float32), 49, 10)[:, None], labels)
save("resnet8", 6000, colours(resized(pictures[:6000].astype(np.float32), 32, 32)), labels)
save("mobilenet", 3000, colours(resized(pictures[:3000].astype(np.float32), 96, 96)), (labels >= 5).astype(np.int64))
save("autoencoder", 6000, pictures[:6000].reshape(-1, 784)[:, 72:712], labels)
