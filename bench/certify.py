"""Certificates of five small networks, and of a sum that can wrap, by onnxsim and by Sinter: verdicts, bounds, times of whole programs.

Usage: python certify.py SINTER SCRATCH
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

SEED = 3
BOX = (0.0, 1.0)


class Net:
    """Nodes one behind the other, with random weights."""

    def __init__(self, random, shape):
        self.random, self.shape, self.last = random, shape, None
        self.nodes, self.stored, self.at = [], [], "x"

    def weight(self, *shape, spread):
        name = f"w{len(self.stored)}"
        self.stored.append(numpy_helper.from_array((self.random.standard_normal(shape) * spread).astype(np.float32), name))
        return name

    def node(self, kind, *inputs, **attributes):
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs) or [self.at], [output], name=output, **attributes))
        self.at = output
        return output

    def conv(self, out, into, size, group=1, pad=1, stride=1):
        weight = self.weight(out, into // group, size, size, spread=(size * size * into / group) ** -0.5)
        window = {"kernel_shape": [size] * 2, "pads": [pad] * 4, "strides": [stride] * 2, "group": group}
        return self.node("Conv", self.at, weight, self.weight(out, spread=0.1), **window)

    def dense(self, out, into):
        self.last = out
        self.node("MatMul", self.at, self.weight(into, out, spread=into**-0.5))
        return self.node("Add", self.at, self.weight(out, spread=0.1))

    def save(self, path):
        self.nodes[-1].output[0] = "y"
        ends = [("x", [1, *self.shape]), ("y", [1, self.last])]
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
        save(helper.make_graph(self.nodes, "net", [x], [y], self.stored), path)


def save(graph, path):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def nets():
    random = np.random.default_rng(SEED)
    cnn = Net(random, (1, 10, 10))
    cnn.conv(6, 1, 3), cnn.node("Relu"), cnn.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    cnn.conv(8, 6, 3), cnn.node("Relu"), cnn.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    cnn.node("Flatten"), cnn.dense(5, 32)
    mlp = Net(random, (16,))
    mlp.dense(32, 16), mlp.node("Relu"), mlp.dense(32, 32), mlp.node("Relu"), mlp.dense(10, 32)
    residual = Net(random, (12,))
    residual.dense(24, 12)
    skip = residual.node("Relu")
    residual.dense(24, 24), residual.node("Relu")
    residual.node("Add", skip, residual.dense(24, 24)), residual.node("Relu"), residual.dense(4, 24)
    depthwise = Net(random, (3, 8, 8))
    depthwise.conv(6, 3, 3, stride=2), depthwise.node("Relu"), depthwise.conv(6, 6, 3, group=6), depthwise.node("Relu")
    depthwise.conv(8, 6, 1, pad=0), depthwise.node("Relu"), depthwise.node("GlobalAveragePool"), depthwise.node("Flatten")
    depthwise.dense(4, 8)
    control = Net(random, (6,))
    control.dense(16, 6), control.node("Sigmoid"), control.dense(16, 16), control.node("Tanh"), control.dense(2, 16)
    return {"cnn": cnn, "mlp": mlp, "residual": residual, "depthwise": depthwise, "control": control}


class Samples(CalibrationDataReader):
    def __init__(self, shape):
        random = np.random.default_rng(SEED)
        self.rest = iter([{"x": random.random((1, *shape), dtype=np.float32)} for _ in range(64)])

    def get_next(self):
        return next(self.rest, None)


def wrapping(path, terms=70_000):
    """A product of so many terms that its sum leaves 32 bits."""
    stored = {
        "xs": np.float32(1 / 255), "xz": np.uint8(0), "w": np.full((terms, 1), 127, np.int8), "ws": np.float32(0.01),
        "wz": np.int8(0), "ys": np.float32(400), "yz": np.uint8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("QLinearMatMul", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["yq"], name="long"),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c]) for n, c in [("x", terms), ("y", 1)])
    save(helper.make_graph(nodes, "wrapping", [x], [y], [numpy_helper.from_array(v, n) for n, v in stored.items()]), path)


INTEGERS = """
import json, onnx, sys
from onnxsim import quant_int_verify
report = quant_int_verify.verify_model(onnx.load(sys.argv[1]), input_ranges={"x": (0.0, 1.0)})
print(json.dumps([f.verdict == "refuted" for l in report.layers for f in l.findings if f.kind == "no-wrap"]))
"""
DISTANCE = """
import json, onnx, sys
from onnxsim import quant_verify
load = lambda path: onnx.load(path)
bounds = [
    float(quant_verify.verify(load(sys.argv[1]), load(sys.argv[2]), {"x": (0.0, 1.0)}, breakdown=False, engine=engine).worst)
    for engine in ["zonotope", "backward"]
]
print(json.dumps(min(bounds)))
"""


def took(command):
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def timed(command):
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if not done.stdout.strip():
        sys.exit(f"{' '.join(command[:3])} said nothing: {done.stderr[-800:]}")
    return json.JSONDecoder().raw_decode(done.stdout.strip())[0], seconds


def main(sinter, scratch):
    os.makedirs(scratch, exist_ok=True)
    files = {}
    for name, net in nets().items():
        path = os.path.join(scratch, name)
        net.save(path + ".onnx")
        for form, ending in [(QuantFormat.QDQ, "qdq"), (QuantFormat.QOperator, "integers")]:
            quantize_static(
                path + ".onnx", f"{path}.{ending}.onnx", Samples(net.shape), quant_format=form, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )
        files[name] = path
    wrapping(os.path.join(scratch, "wrapping.integers.onnx"))
    files["wrapping"] = os.path.join(scratch, "wrapping")
    box = ["--inputs", *map(str, BOX)]
    # What an empty program takes to load its libraries: medians of five.
    starts = [
        sorted(took(command) for _ in range(5))[2]
        for command in ([sys.executable, "-c", "from onnxsim import quant_int_verify, quant_verify"], [sinter, "--version"])
    ]
    print(f"Loading libraries takes {starts[0]:.2f} s (onnxsim) and {starts[1]:.2f} s (Sinter, libtorch) a program.")
    print("| network | wraps, onnxsim | wraps, Sinter | bound, onnxsim | bound, Sinter | found | s, onnxsim | s, Sinter | ratio | ratio without loading |")
    print("|---|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, path in files.items():
        theirs, first = timed([sys.executable, "-W", "ignore", "-c", INTEGERS, path + ".integers.onnx"])
        ours, second = timed([sinter, "certify", "--json", *box, path + ".integers.onnx"])
        wraps = any(layer["sums"]["wraps"] for layer in ours["layers"])
        bounds, programs = ["", "", ""], 1
        if os.path.exists(path + ".onnx"):
            bound, more = timed([sys.executable, "-W", "ignore", "-c", DISTANCE, path + ".onnx", path + ".qdq.onnx"])
            first += more
            ours, more = timed([sinter, "certify", "--json", *box, "--float", path + ".onnx", path + ".qdq.onnx"])
            second += more
            programs = 2
            at_most = ours["distance"][0]["at_most"]
            bounds = [f"{bound:.4g}", "none" if at_most is None else f"{at_most:.4g}", f"{ours['distance'][0]['at_least']:.4g}"]
        alone = (first - programs * starts[0]) / max(second - programs * starts[1], 0.01)
        print(f"| {name} | {any(theirs)} | {wraps} | {' | '.join(bounds)} | {first:.2f} | {second:.2f} | {first / second:.1f} | {alone:.1f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
