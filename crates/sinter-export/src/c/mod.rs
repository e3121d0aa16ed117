//! A folder for a microcontroller: C99 source that runs the model by itself, and the TFLite file as an array for TensorFlow Lite Micro.

mod build;
mod size;

use std::fmt::Write;

use sinter_model::identifier;

use crate::device::source::{CSource, Call, list};
use crate::device::{LowerError, Memory, Program, Rounding, c_kernels, plan, run};
use crate::tflite::operators;

pub use build::{BuildSize, answers_its_test, measure};
pub use size::flash;

/// The files of the folder.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name and content.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Bytes of constants.
    pub constant_bytes: usize,
    /// Bytes of static memory for computed tensors.
    pub memory_bytes: usize,
}

/// The files for a program. `file`: its flatbuffer. `sample`: integers for each input, which become the test vector. `arena`: bytes that
/// TensorFlow Lite Micro took, when that was measured. Errors on a step that is not in integers.
pub fn source(program: &Program, file: &[u8], sample: &[Vec<i8>], arena: Option<usize>) -> Result<Source, LowerError> {
    let memory = plan(program);
    let expected = run(program, sample, Rounding::Fixed)?;
    let constant_bytes = program.tensors.iter().filter_map(|t| t.data.as_ref()).map(Vec::len).sum();
    let files = vec![
        ("sinter_kernels.h", include_str!("sinter_kernels.h").into()),
        ("sinter_kernels.c", c_kernels().into()),
        ("model.h", header(program, &memory).into()),
        ("model.c", body(program, &memory)?.into()),
        ("model_tflite.h", TFLITE_HEADER.into()),
        ("model_tflite.c", array(file).into()),
        ("model_resolver.h", resolver(program, arena).into()),
        ("test_vector.h", vectors(sample, &expected).into()),
        ("test.c", test(program).into()),
        ("Makefile", MAKEFILE.into()),
        ("README.md", readme(program, &memory, file.len(), arena).into()),
    ];
    Ok(Source { files, constant_bytes, memory_bytes: memory.bytes })
}

const TFLITE_HEADER: &str = "\
/* The model as a TFLite flatbuffer, for TensorFlow Lite Micro. */
#ifndef MODEL_TFLITE_H
#define MODEL_TFLITE_H

#ifdef __cplusplus
extern \"C\" {
#endif
extern const unsigned char model_tflite[];
extern const unsigned int model_tflite_len;
#ifdef __cplusplus
}
#endif

#endif
";

const MAKEFILE: &str = "\
# `make test` builds the model with its test vector and runs it; `make` compiles the model alone.
CC ?= cc
CFLAGS ?= -O2
FLAGS = -std=c99 -Wall -Wextra -pedantic -ffunction-sections -fdata-sections $(CFLAGS)

libmodel.a: model.o sinter_kernels.o
\t$(AR) rcs $@ $^

test: test.o libmodel.a
\t$(CC) $(FLAGS) $(LDFLAGS) -Wl,--gc-sections -o run_test test.o libmodel.a
\t./run_test

%.o: %.c model.h sinter_kernels.h test_vector.h model_tflite.h
\t$(CC) $(FLAGS) -c -o $@ $<

clean:
\trm -f *.o libmodel.a run_test

.PHONY: test clean
";

fn header(program: &Program, memory: &Memory) -> String {
    let mut text = String::from(
        "/* A model in eight-bit integers. Write the inputs, call model_invoke, read the outputs; all live in one static block, so inputs\n   \
         must be written anew for every call. value = (integer - zero point) * scale */\n\
         #ifndef MODEL_H\n#define MODEL_H\n\n#include <stdint.h>\n\n",
    );
    let _ = writeln!(text, "/* Bytes of static memory for computed tensors. */\n#define MODEL_MEMORY {}\n", memory.bytes);
    for (what, tensors) in [("INPUT", &program.inputs), ("OUTPUT", &program.outputs)] {
        let _ = writeln!(text, "#define MODEL_{what}S {}", tensors.len());
        for (i, &tensor) in tensors.iter().enumerate() {
            let info = &program.tensors[tensor];
            let shape: Vec<String> = info.shape.iter().map(i64::to_string).collect();
            let _ = writeln!(text, "/* {} */", shape.join(" x "));
            let _ = writeln!(text, "#define MODEL_{what}_{i}_SIZE {}", info.len());
            if let Some(q) = &info.quantization {
                let _ = writeln!(text, "#define MODEL_{what}_{i}_SCALE {:e}f", q.scale(0));
                let _ = writeln!(text, "#define MODEL_{what}_{i}_ZERO_POINT ({})", q.zero_point());
            }
        }
        text.push('\n');
    }
    text.push_str(
        "int8_t *model_input(int index);\nconst int8_t *model_output(int index);\nvoid model_invoke(void);\n\n#endif\n",
    );
    text
}

fn body(program: &Program, memory: &Memory) -> Result<String, LowerError> {
    let mut source = CSource::new(&program.tensors, &memory.offsets);
    let mut calls = String::new();
    for (index, (step, kernel)) in program.steps.iter().zip(program.kernels()?).enumerate() {
        let mut call = Call { source: &mut source, index, inputs: &step.inputs, output: step.output };
        let _ = writeln!(calls, "    /* {} */\n    {}", identifier(&step.node), kernel.call(&mut call));
    }
    let mut picks = String::new();
    for (kind, name, tensors) in
        [("int8_t *", "model_input", &program.inputs), ("const int8_t *", "model_output", &program.outputs)]
    {
        let places: Vec<String> = tensors.iter().map(|&t| source.place(t)).collect();
        let cases: String =
            places.iter().enumerate().skip(1).map(|(i, p)| format!("    if (index == {i}) return {p};\n")).collect();
        let first = places.first().cloned().unwrap_or_else(|| "0".into());
        let _ = writeln!(picks, "{kind}{name}(int index) {{\n    (void)index;\n{cases}    return {first};\n}}\n");
    }
    let CSource { constants, numbers, .. } = source;
    Ok(format!(
        "#include \"model.h\"\n#include \"sinter_kernels.h\"\n\nstatic int8_t memory[{}];\n\n{constants}\n{numbers}\n{picks}void model_invoke(void) {{\n{calls}}}\n",
        memory.bytes.max(1)
    ))
}

fn array(bytes: &[u8]) -> String {
    format!(
        "#include \"model_tflite.h\"\n\n#if defined(__GNUC__)\n__attribute__((aligned(16)))\n#endif\nconst unsigned char model_tflite[] = {{\n{}\n}};\n\
         const unsigned int model_tflite_len = {};\n",
        list(bytes),
        bytes.len()
    )
}

fn resolver(program: &Program, arena: Option<usize>) -> String {
    let operators = operators(program);
    let adds: String = operators.iter().map(|b| format!("    status |= resolver.{}();\n", b.method)).collect();
    let arena = match arena {
        Some(bytes) => format!(
            "/* As measured in TensorFlow Lite Micro on a 64-bit machine; a 32-bit one needs less. */\n#define MODEL_ARENA_BYTES {bytes}\n"
        ),
        None => {
            "/* TensorFlow Lite Micro was not there to measure the arena: start large and read arena_used_bytes(). */\n".into()
        }
    };
    format!(
        "/* What TensorFlow Lite Micro needs to know of the model. */\n#ifndef MODEL_RESOLVER_H\n#define MODEL_RESOLVER_H\n\n\
         #include \"tensorflow/lite/micro/micro_mutable_op_resolver.h\"\n\n{arena}#define MODEL_OPERATORS {}\n\n\
         /* 0 when all were added. */\ninline int model_add_operators(tflite::MicroMutableOpResolver<MODEL_OPERATORS> &resolver) {{\n    \
         int status = 0;\n{adds}    return status;\n}}\n\n#endif\n",
        operators.len()
    )
}

fn vectors(inputs: &[Vec<i8>], outputs: &[Vec<i8>]) -> String {
    let mut text = String::from("/* A sample, and what the integer reference answers. */\n#include <stdint.h>\n\n");
    for (what, values) in [("input", inputs), ("output", outputs)] {
        for (i, values) in values.iter().enumerate() {
            let _ = writeln!(text, "static const int8_t test_{what}_{i}[] = {{\n{}}};", list(values));
        }
    }
    text
}

fn test(program: &Program) -> String {
    let inputs: String = (0..program.inputs.len())
        .map(|i| format!("    for (int k = 0; k < MODEL_INPUT_{i}_SIZE; k++) model_input({i})[k] = test_input_{i}[k];\n"))
        .collect();
    let outputs: String = (0..program.outputs.len())
        .map(|i| {
            format!("    for (int k = 0; k < MODEL_OUTPUT_{i}_SIZE; k++) wrong += model_output({i})[k] != test_output_{i}[k];\n")
        })
        .collect();
    format!(
        "/* Runs the test vector; exits with 1 when a result differs. */\n#include \"model.h\"\n#include \"test_vector.h\"\n#include <stdio.h>\n\n\
         int main(void) {{\n    int wrong = 0;\n{inputs}    model_invoke();\n{outputs}    if (wrong) {{\n        printf(\"%d results differ\\n\", wrong);\n        \
         return 1;\n    }}\n    printf(\"the test vector is answered exactly\\n\");\n    return 0;\n}}\n"
    )
}

fn readme(program: &Program, memory: &Memory, tflite: usize, arena: Option<usize>) -> String {
    let arena = arena.map_or_else(String::new, |n| format!("; it took an arena of {n} bytes where it was measured"));
    format!(
        "# {}\n\nTwo ways to run the model; take one.\n\n\
         - **By itself**: `model.c` and `sinter_kernels.c` are C99 without any library. Static memory: {} bytes. `make test` runs the test\n  vector.\n\
         - **In TensorFlow Lite Micro**: `model_tflite.c` holds the flatbuffer ({tflite} bytes), `model_resolver.h` the operators{arena}.\n\n\
         Operators: {}.\n",
        identifier(&program.name),
        memory.bytes,
        operators(program).iter().map(|b| b.name).collect::<Vec<_>>().join(", ")
    )
}
