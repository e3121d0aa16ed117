//! A folder for a microcontroller: C99 source that runs the model by itself, and the TFLite file as an array for TensorFlow Lite Micro.

mod build;

use std::fmt::Write;

use sinter_model::identifier;

use crate::device::{Geometry, Kernel, LowerError, Memory, Product, Program, Rescale, Rounding, TensorInfo, kernels, plan, run};
use crate::tflite::{operators, tflite};

pub use build::{BuildSize, answers_its_test, measure};

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

/// The files for a program. `sample`: integers for each input, which become the test vector. `arena`: bytes that TensorFlow Lite Micro
/// took, when that was measured. Errors on a step that is not in integers.
pub fn source(program: &Program, sample: &[Vec<i8>], arena: Option<usize>) -> Result<Source, LowerError> {
    let kernels = kernels(program)?;
    let memory = plan(program);
    let expected = run(program, sample, Rounding::Fixed)?;
    let file = tflite(program);
    let constant_bytes = program.tensors.iter().filter_map(|t| t.data.as_ref()).map(Vec::len).sum();
    let files = vec![
        ("sinter_kernels.h", include_str!("kernels.h").into()),
        ("sinter_kernels.c", include_str!("kernels.c").into()),
        ("model.h", header(program, &memory).into()),
        ("model.c", body(program, &kernels, &memory).into()),
        ("model_tflite.h", TFLITE_HEADER.into()),
        ("model_tflite.c", array(&file).into()),
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

/// Writes numbers as a C array's content.
fn list<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    let mut width = 0;
    for value in values {
        let item = format!("{value},");
        if width + item.len() > 118 {
            text.push('\n');
            width = 0;
        }
        width += item.len();
        text.push_str(&item);
    }
    text
}

fn signed(bytes: &[u8]) -> impl Iterator<Item = i8> + '_ {
    bytes.iter().map(|&b| b as i8)
}

fn int32s(bytes: &[u8]) -> impl Iterator<Item = i32> + '_ {
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

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

fn body(program: &Program, kernels: &[Kernel], memory: &Memory) -> String {
    let mut constants = String::new();
    let mut known: Vec<usize> = Vec::new();
    let mut constant = |tensor: usize, info: &TensorInfo| {
        let data = info.data.as_deref().unwrap_or_default();
        if !known.contains(&tensor) {
            known.push(tensor);
            let _ = match info.element {
                crate::device::Element::Int32 => {
                    writeln!(constants, "static const int32_t constant_{tensor}[] = {{\n{}}};", list(int32s(data)))
                }
                _ => writeln!(constants, "static const int8_t constant_{tensor}[] = {{\n{}}};", list(signed(data))),
            };
        }
        format!("constant_{tensor}")
    };
    let mut place = |tensor: usize| match memory.offsets[tensor] {
        Some(at) => format!("memory + {at}"),
        None => constant(tensor, &program.tensors[tensor]),
    };
    let mut numbers = String::new();
    let mut calls = String::new();
    for (i, (step, kernel)) in program.steps.iter().zip(kernels).enumerate() {
        let x = place(step.inputs[0]);
        let y = place(step.output);
        let _ = writeln!(calls, "    /* {} */", identifier(&step.node));
        let mut product = |p: &Product, numbers: &mut String| {
            let (weight, bias) = (place(p.weight), place(p.bias));
            let rescales = list(p.rescale.iter().map(rescale));
            let _ = writeln!(numbers, "static const sinter_rescale rescales_{i}[] = {{\n{rescales}}};");
            let step = i32::from(p.rescale.len() > 1);
            let _ = writeln!(
                numbers,
                "static const sinter_product product_{i} = {{{weight}, {bias}, rescales_{i}, {step}, {}, {}, {}, {}}};",
                p.in_zero, p.out_zero, p.low, p.high
            );
        };
        let call = match kernel {
            Kernel::Conv { geometry, groups, product: p } => {
                product(p, &mut numbers);
                numbers.push_str(&window(i, geometry));
                format!("sinter_conv(&window_{i}, {groups}, &product_{i}, {x}, {y});")
            }
            Kernel::DepthwiseConv { geometry, product: p } => {
                product(p, &mut numbers);
                numbers.push_str(&window(i, geometry));
                format!("sinter_depthwise(&window_{i}, &product_{i}, {x}, {y});")
            }
            Kernel::Dense { rows, inputs, outputs, product: p } => {
                product(p, &mut numbers);
                format!("sinter_dense({rows}, {inputs}, {outputs}, &product_{i}, {x}, {y});")
            }
            Kernel::AveragePool { geometry } => {
                numbers.push_str(&window(i, geometry));
                format!("sinter_average_pool(&window_{i}, {x}, {y});")
            }
            Kernel::MaxPool { geometry } => {
                numbers.push_str(&window(i, geometry));
                format!("sinter_max_pool(&window_{i}, {x}, {y});")
            }
            Kernel::Mean { outer, count, inner, in_zero, out_zero, rescale: by } => {
                let _ = writeln!(numbers, "static const sinter_rescale rescale_{i} = {};", rescale(by));
                format!("sinter_mean({outer}, {count}, {inner}, {in_zero}, {out_zero}, rescale_{i}, {x}, {y});")
            }
            Kernel::Add { zeros, rescales, subtract, out_zero, result, low, high, broadcast, .. } => {
                let sign = if *subtract { -1 } else { 1 };
                let _ = writeln!(
                    numbers,
                    "static const sinter_sum sum_{i} = {{{{{}, {}}}, {{{}, {}}}, {sign}, {out_zero}, {}, {low}, {high}, {}}};",
                    zeros[0],
                    zeros[1],
                    rescale(&rescales[0]),
                    rescale(&rescales[1]),
                    rescale(result),
                    meeting(broadcast)
                );
                format!("sinter_add(&sum_{i}, {x}, {}, {y});", place(step.inputs[1]))
            }
            Kernel::Mul { zeros, out_zero, rescale: by, low, high, broadcast, .. } => {
                let _ = writeln!(
                    numbers,
                    "static const sinter_multiplication mul_{i} = {{{{{}, {}}}, {out_zero}, {}, {low}, {high}, {}}};",
                    zeros[0],
                    zeros[1],
                    rescale(by),
                    meeting(broadcast)
                );
                format!("sinter_mul(&mul_{i}, {x}, {}, {y});", place(step.inputs[1]))
            }
            Kernel::Concat { outer, lengths } => {
                let whole: i64 = lengths.iter().sum();
                let mut start = 0;
                let parts = step.inputs.iter().zip(lengths).map(|(&part, length)| {
                    let call = format!("sinter_concat({outer}, {length}, {whole}, {start}, {}, {y});", place(part));
                    start += length;
                    call
                });
                parts.collect::<Vec<_>>().join("\n    ")
            }
            Kernel::Pad { shape, before, after, value } => {
                for (name, values) in [("shape", shape), ("before", before), ("after", after)] {
                    let _ = writeln!(numbers, "static const int32_t {name}_{i}[4] = {{{}}};", list(values));
                }
                format!("sinter_pad(shape_{i}, before_{i}, after_{i}, {value}, {x}, {y});")
            }
            Kernel::Alias if x == y => "/* the same elements in another shape */".into(),
            Kernel::Alias => format!("sinter_copy({}, {x}, {y});", program.tensors[step.output].len()),
            Kernel::Transpose { shape, order } => {
                let _ = writeln!(numbers, "static const int32_t shape_{i}[4] = {{{}}};", list(shape));
                let _ = writeln!(numbers, "static const int32_t order_{i}[4] = {{{}}};", list(order));
                format!("sinter_transpose(shape_{i}, order_{i}, {x}, {y});")
            }
            Kernel::Softmax { rows, length, table } => {
                let _ = writeln!(numbers, "static const uint32_t powers_{i}[256] = {{\n{}}};", list(table));
                format!("sinter_softmax({rows}, {length}, powers_{i}, {x}, {y});")
            }
            Kernel::Table { table } => {
                let _ = writeln!(numbers, "static const int8_t table_{i}[256] = {{\n{}}};", list(table));
                format!("sinter_table({}, table_{i}, {x}, {y});", program.tensors[step.output].len())
            }
        };
        let _ = writeln!(calls, "    {call}");
    }
    let mut picks = String::new();
    for (kind, name, tensors) in
        [("int8_t *", "model_input", &program.inputs), ("const int8_t *", "model_output", &program.outputs)]
    {
        let places: Vec<String> = tensors.iter().map(|&t| place(t)).collect();
        let cases: String =
            places.iter().enumerate().skip(1).map(|(i, p)| format!("    if (index == {i}) return {p};\n")).collect();
        let first = places.first().cloned().unwrap_or_else(|| "0".into());
        let _ = writeln!(picks, "{kind}{name}(int index) {{\n    (void)index;\n{cases}    return {first};\n}}\n");
    }
    format!(
        "#include \"model.h\"\n#include \"sinter_kernels.h\"\n\nstatic int8_t memory[{}];\n\n{constants}\n{numbers}\n{picks}void model_invoke(void) {{\n{calls}}}\n",
        memory.bytes.max(1)
    )
}

fn rescale(by: &Rescale) -> String {
    format!("{{{}, {}}}", by.multiplier, by.shift)
}

fn window(i: usize, g: &Geometry) -> String {
    let s = &g.slide;
    let numbers = [
        g.input[0],
        g.input[1],
        g.in_channels,
        g.output[0],
        g.output[1],
        g.out_channels,
        s.kernel[0],
        s.kernel[1],
        s.stride[0],
        s.stride[1],
        s.dilation[0],
        s.dilation[1],
        s.begin[0],
        s.begin[1],
    ];
    format!("static const sinter_window window_{i} = {{{}}};\n", list(numbers))
}

fn meeting(b: &crate::device::Broadcast) -> String {
    format!("{{{{{}}}, {{{{{}}}, {{{}}}}}}}", list(b.shape), list(b.steps[0]), list(b.steps[1]))
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
    let adds: String = operators.iter().map(|name| format!("    status |= resolver.{}();\n", method(name))).collect();
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

/// The resolver's method for an operator: `CONV_2D` is `AddConv2D`.
fn method(name: &str) -> String {
    let special = match name {
        "RELU_N1_TO_1" => Some("AddReluN1To1"),
        "PADV2" => Some("AddPadV2"),
        _ => None,
    };
    let camel = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(letters.map(|c| if part == "2D" { c } else { c.to_ascii_lowercase() })).collect::<String>()
    };
    special.map_or_else(|| format!("Add{}", name.split('_').map(camel).collect::<String>()), str::to_string)
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
        operators(program).join(", ")
    )
}
