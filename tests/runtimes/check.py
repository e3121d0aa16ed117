"""Runs one model's artefacts in the real runtimes and compares their answers with the integer reference.

Usage: check.py ARTIFACTS CASE [--no-vela]: CASE holds inputs.npy (int8), float.npy (float32, as the ONNX file takes it), fixed.npy and
rounded.npy (int8: the reference with each kind of rounding), simulated.npy (float32). Prints one JSON object a runtime."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

artifacts, case = Path(sys.argv[1]), Path(sys.argv[2])
inputs, floats, fixed, rounded, simulated = (np.load(case / f"{n}.npy") for n in ("inputs", "float", "fixed", "rounded", "simulated"))
model = artifacts / "model.tflite"


def tell(runtime, got, wanted, step=1, **more):
    off = np.abs(got.astype(np.float64) - wanted.astype(np.float64)) / step
    same = float(np.mean(got.argmax(-1) == wanted.argmax(-1)))
    row = dict(runtime=runtime, exact=float(np.mean(off < 0.5)), within_one=float(np.mean(off < 1.5)), top1=same, **more)
    print(json.dumps(row), flush=True)


def litert(resolver):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    x, y = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for sample in inputs:
        interpreter.set_tensor(x["index"], sample.reshape(x["shape"]))
        interpreter.invoke()
        answers.append(interpreter.get_tensor(y["index"]).reshape(-1))
    return np.stack(answers), y["quantization"]


def micro():
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_file(str(model))
    shape = interpreter.get_input_details(0)["shape"]
    answers = []
    for sample in inputs:
        interpreter.set_input(sample.reshape(shape), 0)
        interpreter.invoke()
        answers.append(np.array(interpreter.get_output(0)).reshape(-1))
    # The allocations go to the C++ side of standard error.
    with tempfile.TemporaryFile() as log:
        keep = os.dup(2)
        os.dup2(log.fileno(), 2)
        interpreter.print_allocations()
        sys.stderr.flush()
        os.dup2(keep, 2)
        log.seek(0)
        text = log.read().decode()
    arena = next(int(line.split()[-2]) for line in text.splitlines() if "Arena allocation total" in line)
    return np.stack(answers), arena


HARNESS = """
#include "model.h"
#include <stdio.h>
int main(void) {
    while (fread(model_input(0), 1, MODEL_INPUT_0_SIZE, stdin) == MODEL_INPUT_0_SIZE) {
        model_invoke();
        fwrite(model_output(0), 1, MODEL_OUTPUT_0_SIZE, stdout);
    }
    return 0;
}
"""
STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]


def c_source():
    folder = artifacts / "c"
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "harness.c").write_text(HARNESS)
        sources = [folder / "model.c", folder / "sinter_kernels.c", scratch / "harness.c"]
        flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{folder}"]
        subprocess.run(["gcc", *STRICT, *flags, "-o", scratch / "run", *sources], check=True)
        answer = subprocess.run([scratch / "run"], input=inputs.tobytes(), stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(answer, np.int8).reshape(len(inputs), -1)


def arm(cpu, machine, flash, ram):
    """Cross-compiles the test vector and runs it in an emulated board."""
    folder = artifacts / "c"
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / "test.elf"
        here = Path(__file__).parent
        flags = ["-O2", f"-mcpu={cpu}", "-mthumb", "-mfloat-abi=soft", f"-I{folder}", "--specs=rdimon.specs", "-ffunction-sections", "-fdata-sections"]
        flags += [f"-Wl,-T,{here / 'board.ld'},--gc-sections,--defsym=FLASH={flash},--defsym=RAM={ram},--defsym=stack_top={ram}+0x60000"]
        sources = [folder / f for f in ("model.c", "sinter_kernels.c", "test.c", "model_tflite.c")]
        start = here / "startup.c"
        subprocess.run(["arm-none-eabi-gcc", *STRICT, *flags, "-nostartfiles", "-o", program, *sources, start], check=True)
        run = ["qemu-system-arm", "-machine", machine, "-nographic", "-semihosting-config", "enable=on,target=native", "-kernel", program]
        done = subprocess.run(run, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=300)
        text = done.stdout.decode()
        if "answered exactly" not in text:
            raise SystemExit(f"{cpu} in {machine} printed {text!r}")


def vela():
    with tempfile.TemporaryDirectory() as scratch:
        command = [Path(sys.executable).parent / "vela", model, "--accelerator-config", "ethos-u55-128", "--output-dir", scratch]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text = done.stdout.decode()
        if done.returncode:
            raise SystemExit(f"vela: {text}")
        table = next(Path(scratch).glob("*summary*.csv")).read_text().splitlines()
        figures = dict(zip(table[0].split(","), table[1].split(",")))
    on_cpu = [line for line in text.splitlines() if "is placed on the CPU" in line or "CPU operators =" in line and " 0 " not in line]
    return figures, on_cpu


from ai_edge_litert.interpreter import OpResolverType

answers, (scale, zero) = litert(OpResolverType.AUTO)
tell("LiteRT, XNNPACK", answers, rounded)
tell("LiteRT, own kernels", litert(OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)[0], fixed)
answers, arena = micro()
tell("TensorFlow Lite Micro", answers, fixed, arena=arena)
tell("C, sanitized", c_source(), fixed)

import onnx
import onnxruntime

for name in ("float.onnx", "model.onnx"):
    onnx.checker.check_model(str(artifacts / name), full_check=True)

session = onnxruntime.InferenceSession(str(artifacts / "model.onnx"), providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
answers = np.concatenate([session.run(None, {name: sample[None]})[0] for sample in floats]).reshape(len(floats), -1)


def eight_bits(values):
    """ONNX Runtime leaves out the last pair of quantize and dequantize, and with it the ends of the range."""
    return np.clip(np.round(values / scale) + zero, -128, 127)


tell("ONNX Runtime", eight_bits(answers), eight_bits(simulated))

with_arm = all(map(shutil.which, ("arm-none-eabi-gcc", "qemu-system-arm")))
if with_arm:
    arm("cortex-m4", "mps2-an386", "0x00000000", "0x20000000")
    arm("cortex-m55", "mps3-an547", "0x10000000", "0x30000000")
print(json.dumps(dict(runtime="Arm boards in QEMU", ran=with_arm)))
figures, on_cpu = vela()
print(json.dumps(dict(runtime="Vela", on_cpu=on_cpu, cycles=figures.get("cycles_total"), sram=figures.get("sram_memory_used"))))
print(json.dumps(dict(runtime="files", tflite=model.stat().st_size)))
