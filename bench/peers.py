"""What peers need for the same work on the same arrays. Prints one JSON object a line: {"name", "seconds", "value"}."""

import json
import lzma
import sys
import time
import zlib

import numpy as np


def told(name, seconds, value=None):
    print(json.dumps({"name": name, "seconds": seconds, "value": value}), flush=True)


def best(work, times):
    """The least time of several runs, and what the last one gave."""
    least, result = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        least = min(least, time.perf_counter() - start)
    return least, result


def inertia(values, centroids):
    """The sum of squared distances to the nearest centroid, the same way for everyone."""
    centroids = np.sort(np.asarray(centroids, dtype=np.float64).ravel())
    middles = (centroids[1:] + centroids[:-1]) / 2
    nearest = centroids[np.searchsorted(middles, values)]
    return float(((values - nearest) ** 2).sum())


def kmeans(path, k, exact):
    import faiss
    from sklearn.cluster import KMeans

    values = np.fromfile(path, dtype=np.float32)
    wide = values.astype(np.float64)
    column = values.reshape(-1, 1)
    seconds, fitted = best(lambda: KMeans(k, n_init=1, max_iter=20, random_state=0).fit(column), 1)
    told("scikit-learn", seconds, inertia(wide, fitted.cluster_centers_))

    def with_faiss():
        means = faiss.Kmeans(1, k, niter=25, seed=1, max_points_per_centroid=10**9)
        means.train(column)
        return means

    seconds, fitted = best(with_faiss, 1)
    told("faiss", seconds, inertia(wide, fitted.centroids))
    if exact:
        import ckwrap

        seconds, fitted = best(lambda: ckwrap.ckmeans(wide, k), 1)
        told("ckwrap (exact)", seconds, inertia(wide, fitted.centers))


def masks(path, side):
    import torch

    weight = torch.from_numpy(np.fromfile(path, dtype=np.float32)).reshape(side, side)

    def two_of_four():
        runs = weight.abs().reshape(-1, 4)
        keep = torch.zeros_like(runs)
        keep.scatter_(1, runs.topk(2, dim=1).indices, 1.0)
        return keep.reshape(side, side)

    def magnitude():
        # As torch.nn.utils.prune.L1Unstructured.compute_mask does it.
        keep = torch.ones_like(weight)
        lowest = torch.topk(weight.abs().reshape(-1), k=round(0.9 * weight.numel()), largest=False)
        keep.reshape(-1)[lowest.indices] = 0
        return keep

    for name, work in (("torch topk 2:4", two_of_four), ("torch prune 90 %", magnitude)):
        seconds, keep = best(work, 3)
        told(name, seconds, float(keep.sum()))


def coding(path):
    import nncodec.tensor as nnc

    values = np.fromfile(path, dtype=np.int8)
    start = time.perf_counter()
    packed = nnc.encode(values.astype(np.int32).reshape(1024, -1))
    told("DeepCABAC (nncodec)", time.perf_counter() - start, len(packed))
    nibbles = (values.astype(np.uint8) & 15).reshape(-1, 2)
    nibbles = (nibbles[:, 0] | nibbles[:, 1] << 4).tobytes()
    start = time.perf_counter()
    packed = min((lzma.compress(data, preset=9 | lzma.PRESET_EXTREME) for data in (values.tobytes(), nibbles)), key=len)
    told("xz -9e", time.perf_counter() - start, len(packed))
    start = time.perf_counter()
    packed = min((zlib.compress(data, 9) for data in (values.tobytes(), nibbles)), key=len)
    told("zip (deflate -9)", time.perf_counter() - start, len(packed))


def gptq(path, side, hessian_path):
    """GPTQ as its paper has it (Frantar et al., 2023), in plain torch: symmetric int4, a scale for each group of 128 columns taken when
    the group is reached, blocks of 128 columns, 1 % damping."""
    import torch

    weight = torch.from_numpy(np.fromfile(path, dtype=np.float32)).reshape(side, side)
    hessian = torch.from_numpy(np.fromfile(hessian_path, dtype=np.float32)).reshape(side, side)

    def error(rounded):
        off = rounded - weight
        return float(((off @ hessian) * off).sum() / ((weight @ hessian) * weight).sum())

    def nearest():
        groups = weight.reshape(side, -1, 128)
        scale = groups.abs().amax(2, keepdim=True) / 7
        return ((groups / scale).round().clamp(-7, 7) * scale).reshape(side, side)

    def second_order():
        w, rounded = weight.clone(), torch.zeros_like(weight)
        damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(side)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        factor = torch.linalg.cholesky(inverse, upper=True)
        for start in range(0, side, 128):
            end = start + 128
            block, errors = w[:, start:end].clone(), torch.zeros(side, 128)
            local = factor[start:end, start:end]
            scale = block.abs().amax(1) / 7
            for i in range(128):
                column = block[:, i]
                q = (column / scale).round().clamp(-7, 7) * scale
                rounded[:, start + i] = q
                off = (column - q) / local[i, i]
                block[:, i:] -= off.unsqueeze(1) @ local[i, i:].unsqueeze(0)
                errors[:, i] = off
            w[:, end:] -= errors @ factor[start:end, end:]
        return rounded

    for name, work in (("torch, nearest", nearest), ("torch, GPTQ", second_order)):
        seconds, rounded = best(work, 2)
        told(name, seconds, error(rounded))


def static(path, folder):
    import logging
    import os
    import warnings

    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    import onnx
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    x = np.load(os.path.join(folder, "calibrate.npz"))["x"]
    scoring = np.load(os.path.join(folder, "score.npz"))
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    class Reader(CalibrationDataReader):
        def __init__(self):
            # Percentiles and entropies want batches of one size.
            size = 64 if len(x) % 64 == 0 else 50
            self.batches = iter([{name: x[i : i + size]} for i in range(0, len(x), size)])

        def get_next(self):
            return next(self.batches, None)

    def accuracy(file):
        session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        wanted, hits = scoring["y"], 0
        for i in range(0, len(wanted), 250):
            found = session.run(None, {name: scoring["x"][i : i + 250]})[0].argmax(1)
            hits += int((found == wanted[i : i + 250]).sum())
        return hits / len(wanted)

    out = os.path.join(folder, "peer.onnx")
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Percentile, CalibrationMethod.Entropy):

        def work():
            quantize_static(
                path,
                out,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=method,
            )

        seconds, _ = best(work, 1)
        told(f"onnxruntime, {method.name}", seconds, accuracy(out))
    os.replace(out, os.path.join(folder, "quantize_static.onnx"))
    import nncf

    model = onnx.load(path)
    batches = [{name: x[i : i + 1]} for i in range(len(x))]
    seconds, quantized = best(lambda: nncf.quantize(model, nncf.Dataset(batches), subset_size=len(x)), 1)
    onnx.save(quantized, out)
    told("nncf", seconds, accuracy(out))


def latency(path, folder):
    """The median time of one inference on one thread; the files take turns, so that all meet the same noise."""
    import os

    import onnxruntime as ort

    x = np.load(os.path.join(folder, "score.npz"))["x"][:1]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    files = {
        "Sinter": os.path.join(folder, "ours.onnx"),
        "onnxruntime, quantize_static": os.path.join(folder, "quantize_static.onnx"),
        "nncf": os.path.join(folder, "peer.onnx"),
        "float": path,
    }
    sessions = {n: ort.InferenceSession(f, options, providers=["CPUExecutionProvider"]) for n, f in files.items()}
    times = {n: [] for n in files}
    for turn in range(600):
        for n, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: x})
            if turn >= 100:
                times[n].append(time.perf_counter() - start)
    for n in files:
        told(n, float(np.median(times[n])), float(np.percentile(times[n], 95)))


def archive(path):
    """What general archivers make of a whole file."""
    data = open(path, "rb").read()
    for name, work in (("xz -9e", lambda: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)), ("zip", lambda: zlib.compress(data, 9))):
        seconds, packed = best(work, 1)
        told(name, seconds, len(packed))


if __name__ == "__main__":
    work, path, *rest = sys.argv[1:]
    if work == "kmeans":
        kmeans(path, int(rest[0]), rest[1] == "exact")
    elif work == "masks":
        masks(path, int(rest[0]))
    elif work == "gptq":
        gptq(path, int(rest[0]), rest[1])
    elif work == "static":
        static(path, rest[0])
    elif work == "latency":
        latency(path, rest[0])
    elif work == "coding":
        coding(path)
    else:
        archive(path)
