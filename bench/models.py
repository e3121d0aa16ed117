"""Models that people use, compressed to eight bits by Sinter, onnxruntime and NNCF: size, quality at the model's own task, signal to noise
against the float file, latency on one thread (files take turns), time and peak memory of each tool as a whole program.

Usage: python models.py SINTER SCRATCH PACKAGES DATA [ROW...]
PACKAGES holds the unpacked wheels, DATA what `cargo xtask data minilm words` made. Calibration samples and test samples are never the same.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import time

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort

SEED = 7
TOOLS = {
    "Sinter": "sinter run, `latency: true`; for sentences `activations: dynamic`; its time holds scoring, both ONNX files and timing them",
    "Sinter, all integers": "sinter run without `latency`",
    "onnxruntime, static": "quantize_static, QDQ, U8S8, a scale a channel, MinMax",
    "onnxruntime, dynamic": "quantize_dynamic, int8 weights, a scale a channel",
    "NNCF": "nncf.quantize with its defaults, and ModelType.TRANSFORMER for sentences",
}


class Row:
    """A model, samples to calibrate with and to judge by (arrays by input name), what Sinter is told, and a score of the outputs."""

    def __init__(self, model, calibrate, test, score, unit, quantize="latency: true", transformer=False):
        self.model, self.calibrate, self.test, self.score, self.unit = model, calibrate, test, score, unit
        self.quantize, self.transformer = quantize, transformer


def halves(arrays, calibrate):
    return tuple({n: a[s] for n, a in arrays.items()} for s in (slice(None, calibrate), slice(calibrate, None)))


def turned_words(packages, data):
    """Text lines, every second one on its head: which?"""
    def of(name, count):
        x = np.load(data / f"words/{name}.npz")["x"][:count].copy()
        x[1::2] = x[1::2, :, ::-1, ::-1]
        return {"x": x}

    truth = np.arange(600) % 2
    score = lambda outputs, _: float((outputs[0].argmax(1) == truth).mean())
    model = packages / "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
    return Row(model, of("train", 200), of("test", 600), score, "accuracy")


def words(packages, data):
    """Rendered words, read."""
    arrays = np.load(data / "words/test.npz")
    truth = [[int(c) for c in row if c >= 0] for row in arrays["y"][:600]]

    def score(outputs, _):
        best = outputs[0].argmax(2)
        read = [[int(c) for k, c in enumerate(row) if c and (k == 0 or row[k - 1] != c)] for row in best]
        return sum(a == b for a, b in zip(read, truth)) / len(truth)

    model = packages / "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
    train = {"x": np.load(data / "words/train.npz")["x"][:200]}
    return Row(model, train, {"x": arrays["x"][:600]}, score, "words right")


def lines(packages, data):
    """Pages of words: which points belong to text? Judged by the words' own boxes."""
    random = np.random.default_rng(SEED)
    stocks = [np.load(data / f"words/{name}.npz")["x"] for name in ("train", "test")]
    pages, truth = [], []
    for at in range(48):
        stock = stocks[at >= 24]
        page = np.full((3, 320, 320), random.uniform(-0.2, 1), np.float32)
        mask = np.zeros((320, 320), bool)
        for row in range(6):
            for column in range(1 + (random.random() < 0.3)):
                line = stock[random.integers(len(stock))]
                width = int((np.abs(line[0]).max(0) > 0).sum())
                top, left = 4 + 53 * row, int(random.integers(0, max(1, 320 - width)))
                if mask[top : top + 48, left : left + width].any():
                    continue
                page[:, top : top + 48, left : left + width] = line[:, :, :width]
                mask[top + 8 : top + 40, left + 6 : left + width - 6] = True
        pages.append(page), truth.append(mask)
    arrays = {"x": np.stack(pages)}
    calibrate, test = halves(arrays, 24)
    wanted = np.stack(truth)[24:]

    def score(outputs, _):
        found = outputs[0][:, 0] > 0.3
        return float((found & wanted).sum() / (found | wanted).sum())

    return Row(packages / "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", calibrate, test, score, "IoU of text")


def notes(packages, _data):
    """Chords of decaying tones: which notes sound in each frame?"""
    random = np.random.default_rng(SEED)
    seconds, rate = 43844 / 22050, 22050
    t = np.arange(43844) / rate
    clips, truth = [], []
    for _ in range(96):
        clip, marks = np.zeros(43844), np.zeros((172, 88), bool)
        for _ in range(random.integers(2, 6)):
            note, start, length = random.integers(30, 70), random.uniform(0, 1.2), random.uniform(0.4, 0.9)
            pitch = 27.5 * 2 ** (note / 12)
            sounding = (t >= start) & (t < start + length)
            decay = np.exp(-2 * (t - start)) * sounding
            clip += sum(0.3 / k**1.5 * np.sin(2 * np.pi * pitch * k * t + random.uniform(0, 6)) * decay for k in (1, 2, 3, 4))
            first, last = (int(s / seconds * 172) for s in (start, min(start + length, seconds)))
            marks[first:last, note] = True
        clips.append((clip / max(1, np.abs(clip).max())).astype(np.float32)[:, None]), truth.append(marks)
    model = packages / "basic_pitch/saved_models/icassp_2022/nmp.onnx"
    name = ort.InferenceSession(str(model)).get_inputs()[0].name
    calibrate, test = halves({name: np.stack(clips)}, 48)
    wanted = np.stack(truth)[48:]

    # The file gives onsets, notes and contours: of the two with 88 columns the notes mark more.
    sums = [float(o.sum()) if o.shape[-1] == 88 else -1 for o in answers(model, test)]

    def score(outputs, _):
        found = outputs[int(np.argmax(sums))] > 0.3
        hits = (found & wanted).sum()
        return float(2 * hits / (found.sum() + wanted.sum()))

    return Row(model, calibrate, test, score, "F1 of notes")


def bodies(packages, _data):
    """A YOLOv8 detector on pictures that are no photographs: only how near its outputs stay to the float ones."""
    random = np.random.default_rng(SEED)
    ramps = np.linspace(0, 1, 320, dtype=np.float32)
    def one():
        picture = np.zeros((3, 320, 320), np.float32) + random.random((3, 1, 1)).astype(np.float32)
        for _ in range(12):
            x, y, r = random.integers(0, 320), random.integers(0, 320), random.integers(10, 90)
            inside = ((np.arange(320)[:, None] - y) ** 2 + (np.arange(320)[None] - x) ** 2) < r * r
            picture[:, inside] = random.random((3, 1)).astype(np.float32)
        return np.clip(picture * (0.6 + 0.4 * ramps) + random.normal(0, 0.03, picture.shape), 0, 1).astype(np.float32)

    calibrate, test = halves({"images": np.stack([one() for _ in range(56)])}, 40)
    return Row(packages / "nudenet/320n.onnx", calibrate, test, None, "")


def files(packages, _data):
    """File types of Python's own installation, by what is known from their names."""
    random = np.random.default_rng(SEED)
    folder = packages / "magika/models/standard_v3_3"
    config = json.loads((folder / "config.min.json").read_text())
    labels = config["target_labels_space"]
    kinds = {".py": "python", ".h": "c", ".txt": "txt", ".json": "json", ".html": "html", ".css": "css", ".so": "elf", ".pyc": "pythonbytecode", ".png": "png", ".md": "markdown", ".csv": "csv", ".zip": "zip", ".whl": "zip", ".pyi": "python", ".c": "c", ".js": "javascript", ".xml": "xml", ".sh": "shell", ".gz": "gzip", ".yaml": "yaml", ".toml": "toml"}
    kinds = {suffix: kind for suffix, kind in kinds.items() if kind in labels}
    places = [pathlib.Path(p) for p in sorted({sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"]})]
    by_kind = {}
    for place in places:
        for path in sorted(place.rglob("*")):
            if path.suffix in kinds and path.is_file() and not path.is_symlink() and path.stat().st_size > 600:
                by_kind.setdefault(kinds[path.suffix], []).append(path)
    rows, truth = [], []
    size, pad, block = config["beg_size"], config["padding_token"], config["block_size"]
    for kind, paths in sorted(by_kind.items()):
        for i in random.permutation(len(paths))[:80]:
            data = paths[i].read_bytes()
            head, tail = data[:block].lstrip()[:size], data[-block:].rstrip()[-config["end_size"] :]
            row = np.full(size + config["end_size"], pad, np.int32)
            row[: len(head)] = list(head)
            row[len(row) - len(tail) :] = list(tail)
            rows.append(row), truth.append(labels.index(kind))
    order = random.permutation(len(rows))
    arrays, truth = np.stack(rows)[order], np.array(truth)[order]
    count = min(256, len(rows) // 3)
    calibrate, test = halves({"bytes": arrays}, count)
    wanted = truth[count:]
    score = lambda outputs, _: float((outputs[0].argmax(1) == wanted).mean())
    return Row(folder / "model.onnx", calibrate, test, score, "file types right")


def sentences(_packages, data):
    """Words of WordNet and their definitions: is the nearest text the right one?"""
    arrays = {n: np.load(data / f"minilm/{n}.npz") for n in ("train", "test")}
    of = lambda name, count: {k: arrays[name][k][:count] for k in ("input_ids", "attention_mask")}
    truth = arrays["test"]["y"]

    def score(outputs, _):
        near = outputs[0] @ outputs[0].T
        np.fill_diagonal(near, -9)
        return float((truth[near.argmax(1)] == truth).mean())

    test = of("test", 1000)
    return Row(data / "minilm/minilm.onnx", of("train", 200), test, score, "recall@1", "activations: dynamic", True)


ROWS = {
    "angle": turned_words,
    "read": words,
    "find": lines,
    "notes": notes,
    "bodies": bodies,
    "files": files,
    "sentences": sentences,
}


def session(path, threads=1):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def batch_of(model):
    """One where the file fixes its batch."""
    first = model.get_inputs()[0].shape[0]
    return 1 if first == 1 else 25


def answers(path, arrays):
    model = session(path, 2)
    size, count = batch_of(model), len(next(iter(arrays.values())))
    parts = [model.run(None, {n: a[i : i + size] for n, a in arrays.items()}) for i in range(0, count, size)]
    return [np.concatenate(p) for p in zip(*parts)]


def noise(float_outputs, outputs):
    """Signal to noise of the worst output, in dB."""
    def one(a, b):
        power = float((a.astype(np.float64) ** 2).sum())
        off = float(((a.astype(np.float64) - b) ** 2).sum())
        return 10 * np.log10(power / max(off, 1e-30))

    return min(one(a, b) for a, b in zip(float_outputs, outputs) if a.dtype.kind == "f")


def latencies(files, arrays):
    """Median milliseconds of one inference; the files take turns."""
    one = {n: a[:1] for n, a in arrays.items()}
    models = {n: session(p) for n, p in files.items()}
    times = {n: [] for n in files}
    started = time.perf_counter()
    turn = 0
    while turn < 20 or (time.perf_counter() - started < 15 and turn < 400):
        for n, model in models.items():
            start = time.perf_counter()
            model.run(None, one)
            if turn >= 5:
                times[n].append(time.perf_counter() - start)
        turn += 1
    return {n: float(np.median(t)) * 1e3 for n, t in times.items()}


def work(tool, model, arrays, out, transformer):
    """Runs in a process of its own, so that time and memory are the tool's."""
    import logging

    logging.disable(logging.WARNING)
    stored = np.load(arrays)
    samples = {n: stored[n] for n in stored.files}
    count = len(next(iter(samples.values())))
    # Batches whose size the file may fix.
    size = batch_of(session(model))
    batches = [{n: a[i : i + size] for n, a in samples.items()} for i in range(0, count, size)]
    if tool == "NNCF":
        import nncf

        singles = [{n: a[i : i + 1] for n, a in samples.items()} for i in range(count)]
        kind = nncf.ModelType.TRANSFORMER if transformer else None
        onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(singles), subset_size=count, model_type=kind), out)
        return
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_dynamic, quantize_static

    prepared = out + ".prepared.onnx"
    loaded = onnx.load(model)
    if loaded.opset_import[0].version < 13:
        # A scale a channel wants opset 13, and what they write is invalid below it.
        onnx.save(onnx.version_converter.convert_version(loaded, 17), prepared)
        model = prepared
    quant_pre_process(model, prepared, skip_symbolic_shape=True)
    if tool == "onnxruntime, dynamic":
        quantize_dynamic(prepared, out, weight_type=QuantType.QInt8, per_channel=True)
    else:

        class Reader(CalibrationDataReader):
            rest = iter(batches)

            def get_next(self):
                return next(self.rest, None)

        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(prepared, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, **types)
    os.remove(prepared)


def run(command):
    """Seconds and MiB of a program; what it said where it failed."""
    peak = 0
    with tempfile.TemporaryFile("w+") as said:
        before = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        status = pathlib.Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            # What the system counts for an ended child begins with what its parent had.
            try:
                found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
            except OSError:
                found = None
            peak = max(peak, int(found.group(1)) if found else 0)
            time.sleep(0.02)
        seconds = time.perf_counter() - before
        said.seek(0)
        lines = said.read().strip().splitlines() or ["no word"]
    return seconds, peak / 1024, None if process.returncode == 0 else lines[-1][:160]


def sinter(program, folder, row, all_integers):
    names = list(row.calibrate)
    inputs = ", ".join(f"'{n}': a{i}" for i, n in enumerate(names))
    for file, arrays in (("calibrate", row.calibrate), ("few", {n: a[:8] for n, a in row.test.items()})):
        np.savez(folder / f"{file}.npz", **{f"a{i}": arrays[n] for i, n in enumerate(names)})
    (folder / "data.yaml").write_text(
        f"name: samples\nsource: {{ numpy: {{ path: calibrate.npz, test: few.npz, inputs: {{ {inputs} }} }} }}\n"
    )
    quantize = row.quantize.replace("latency: true", "") if all_integers else row.quantize
    text = f"name: model\nmodel: {{ onnx: {row.model.resolve()} }}\ndata: data.yaml\nstages:\n  - quantize: {{ {quantize} }}\nexport: [onnx]\n"
    (folder / "model.yaml").write_text(text)
    out = folder / ("integers" if all_integers else "chosen")
    subprocess.run(["rm", "-rf", str(out)])
    told = run([program, "run", str(folder / "model.yaml"), "--out", str(out), "--quiet"])
    found = sorted(out.glob("model/*/artifacts/model.onnx"))
    return told, (found[-1] if found else None)


def bench(program, scratch, packages, data, name):
    row = ROWS[name](packages, data)
    folder = scratch / name
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "calibration.npz", **row.calibrate)
    files, told = {"float": row.model}, {}
    for tool in TOOLS:
        if tool.startswith("Sinter"):
            all_integers = tool != "Sinter"
            if all_integers and "latency" not in row.quantize:
                continue
            told[tool], found = sinter(program, folder, row, all_integers)
        else:
            found = folder / (re.sub(r"\W+", "-", tool.lower()) + ".onnx")
            found.unlink(missing_ok=True)
            worker = [sys.executable, "-W", "ignore", __file__, "--work", tool, str(row.model), str(folder / "calibration.npz"), str(found)]
            told[tool] = run(worker + (["transformer"] if row.transformer else []))
        if found and found.exists() and told[tool][2] is None:
            files[tool] = found
    whole = answers(row.model, row.test)
    scored = {}
    for tool, path in list(files.items()):
        try:
            outputs = answers(path, row.test)
            scored[tool] = (row.score(outputs, None) if row.score else None, noise(whole, outputs))
        except Exception as error:
            told[tool] = (*told[tool][:2], str(error).strip().splitlines()[0][:160])
            del files[tool]
    times = latencies(files, row.test)
    count, calibrated = (len(next(iter(a.values()))) for a in (row.test, row.calibrate))
    print(f"\n{name}: {row.model.name}, {count} samples ({row.unit or 'no labels'}), {calibrated} to calibrate\n")
    head = ["", "KiB", row.unit or "-", "SNR dB", "ms", "of float", "tool s", "tool MiB"]
    table = [head]
    for tool in ["float", *TOOLS]:
        if tool in files:
            quality, decibels = scored[tool]
            seconds, memory = told[tool][:2] if tool in told else (None, None)
            table.append([
                tool,
                f"{os.path.getsize(files[tool]) / 1024:.0f}",
                f"{100 * quality:.2f} %" if quality is not None else "",
                "" if tool == "float" else f"{decibels:.1f}",
                f"{times[tool]:.3f}",
                f"{times[tool] / times['float']:.2f}",
                f"{seconds:.1f}" if seconds else "",
                f"{memory:.0f}" if memory else "",
            ])
        elif tool in told:
            table.append([tool, f"failed: {told[tool][2]}"])
    widths = [max(len(r[i]) for r in table if len(r) == len(head)) for i in range(len(head))]
    for r in table:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) if len(r) == len(head) else "  ".join(r))
    sys.stdout.flush()


def main():
    if sys.argv[1] == "--work":
        work(*sys.argv[2:6], transformer=len(sys.argv) > 6)
        return
    program, scratch, packages, data = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])
    for tool, what in TOOLS.items():
        print(f"{tool}: {what}")
    for name in sys.argv[5:] or ROWS:
        bench(program, scratch, packages, data, name)


main()
