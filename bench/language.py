"""A language model in four bits by Sinter and llm-compressor: perplexity of the written files in their own runtimes, size, time and peak memory of each tool.

Usage: python language.py SINTER SCRATCH FOLDER CALIBRATE MEASURE [NODE_MODULES]
FOLDER is a Hugging Face folder in float; 128 windows of 512 tokens of CALIBRATE are calibrated with, 40 of MEASURE are measured on, of which the second halves are scored. NODE_MODULES has
node-llama-cpp, with which GGUF files are measured. Everything runs on as many threads as there are cores; tools take turns.
"""

import gzip
import json
import math
import os
import pathlib
import subprocess
import sys
import time

WINDOW, CALIBRATE, MEASURE = 512, 128, 40
RECIPES = {
    "Sinter, round to nearest": "weights: int4/group:64, activations: none, rounding: nearest, scaling: []",
    "Sinter, GPTQ": "weights: int4/group:64, activations: none, rounding: gptq",
}
PEERS = ["llm-compressor, GPTQ", "llm-compressor, AWQ"]


def read(path):
    data = pathlib.Path(path).read_bytes()
    text = (gzip.decompress(data) if str(path).endswith(".gz") else data).decode("utf-8")
    # Emma begins behind its title.
    return text[max(text.find("VOLUME I", 0, 1000), 0):]


def tokens(folder, text):
    from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(folder)(text)["input_ids"]


def excerpt(folder, text, windows):
    """The beginning of a text that has so many windows, to the character."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    return text[: tokenizer.encode(text).offsets[windows * WINDOW - 1][1]]


def in_transformers(folder, text):
    """Perplexity of a folder, float or compressed."""
    import torch
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor(tokens(folder, read(text)))
    loss = count = 0
    with torch.no_grad():
        for k in range(len(ids) // WINDOW):
            window = ids[k * WINDOW : (k + 1) * WINDOW]
            scores = torch.log_softmax(model(window[None]).logits[0].float()[WINDOW // 2 - 1 : -1], -1)
            loss -= scores.gather(1, window[WINDOW // 2 :, None]).double().sum().item()
            count += WINDOW // 2
    print(json.dumps({"perplexity": math.exp(loss / count), "tokens": count}))


def peer(name, folder, calibrate, out):
    """What llm-compressor leaves in a folder."""
    import torch
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.awq import AWQModifier
    from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokens(folder, read(calibrate))
    rows = [ids[k * WINDOW : (k + 1) * WINDOW] for k in range(CALIBRATE)]
    data = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * WINDOW] * len(rows)})
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 64}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    recipe = [GPTQModifier(ignore=["lm_head"], config_groups=groups)]
    if "AWQ" in name:
        recipe = [AWQModifier(), QuantizationModifier(ignore=["lm_head"], config_groups=groups)]
    oneshot(model=model, dataset=data, recipe=recipe, max_seq_length=WINDOW, num_calibration_samples=len(rows))
    model.save_pretrained(out, save_compressed=True)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)


def timed(command, **options):
    """Runs a command to its end; seconds, and its peak memory in GB."""
    start = time.time()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise RuntimeError(f"{command[:3]}: {said[-2000:]}")
    return said, time.time() - start, usage.ru_maxrss / 1e6


def again(*arguments):
    """This script in a process of its own."""
    return [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]


def last(said):
    return json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))


def in_llama_cpp(modules, gguf, text):
    script = pathlib.Path(__file__).with_name("llamacpp.mjs")
    said, _, _ = timed(["node", str(script), str(modules), str(gguf), str(text), str(WINDOW)])
    return last(said)["perplexity"]


def weights(folder):
    return sum(p.stat().st_size for p in pathlib.Path(folder).glob("*.safetensors"))


def main(sinter, scratch, folder, calibrate, measure, modules=None):
    scratch, folder = pathlib.Path(scratch).resolve(), pathlib.Path(folder).resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    for name, text, windows in (("calibrate", calibrate, CALIBRATE), ("measure", measure, MEASURE)):
        (scratch / f"{name}.txt").write_text(excerpt(folder, read(text), windows), encoding="utf-8")
    text = scratch / "measure.txt"
    (scratch / "data.yaml").write_text(
        f"name: texts\ntask: language\nsource: {{ text: {{ path: calibrate.txt, test: measure.txt, tokens: {WINDOW} }} }}\n")
    floating = last(timed(again("--transformers", folder, text))[0])["perplexity"]
    # Files of runtimes are measured, not what Sinter says of them.
    print(f"{'':28}  perplexity   x float   llama.cpp      MB    seconds   GB")
    print(f"{'float, transformers':28}  {floating:10.4f}  {1:8.4f}  {'':>10}  {weights(folder) / 1e6:6.1f}")
    for name, recipe in RECIPES.items():
        file = scratch / (name.split(", ")[1].replace(" ", "-") + ".yaml")
        file.write_text(
            f"name: {file.stem}\nmodel: {{ huggingface: {folder} }}\ndata: data.yaml\nstages:\n"
            f"  - quantize: {{ {recipe}, samples: {CALIBRATE}, layers: [{{ match: lm_head, weights: none }}] }}\nexport: [compressed-tensors, gguf]\n")
        said, seconds, memory = timed([str(pathlib.Path(sinter).resolve()), "run", str(file), "--fresh", "--json", "--out", str(scratch / "reports")])
        run = json.loads(max((scratch / "reports" / file.stem).glob("*/run.json"), key=os.path.getmtime).read_text())
        simulated = [row["value"] for row in run["stages"]]
        stage = run["stages"][1]["seconds"]
        artifacts = max((scratch / "reports" / file.stem).glob("*/artifacts"), key=os.path.getmtime)
        found = last(timed(again("--transformers", artifacts / "compressed-tensors", text))[0])["perplexity"]
        llama = f"{in_llama_cpp(modules, artifacts / 'model.gguf', text):10.4f}" if modules else ""
        size = weights(artifacts / "compressed-tensors") / 1e6
        print(f"{name:28}  {found:10.4f}  {found / floating:8.4f}  {llama:>10}  {size:6.1f}  {seconds:7.0f}  {memory:5.1f}"
              f"   (the stage {stage:.0f} s; simulated {simulated[0]:.4f} and {simulated[1]:.4f})", flush=True)
    for name in PEERS:
        out = scratch / name.split(", ")[1]
        _, seconds, memory = timed(again("--peer", name, folder, scratch / "calibrate.txt", out))
        found = last(timed(again("--transformers", out, text))[0])["perplexity"]
        print(f"{name:28}  {found:10.4f}  {found / floating:8.4f}  {'':>10}  {weights(out) / 1e6:6.1f}  {seconds:7.0f}  {memory:5.1f}", flush=True)


if __name__ == "__main__":
    match sys.argv[1]:
        case "--transformers":
            in_transformers(*sys.argv[2:])
        case "--peer":
            peer(*sys.argv[2:])
        case _:
            main(*sys.argv[1:])
