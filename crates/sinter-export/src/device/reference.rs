//! The integer reference: what every runtime of a program should answer.

use tch::Tensor;

use super::arithmetic::Rounding;
use super::error::LowerError;
use super::program::Program;
use super::tensor::Element;

/// Runs a program on one sample in integers. `inputs` in the program's order, each flat. Errors on a program that is not all integers.
pub fn run(program: &Program, inputs: &[Vec<i8>], rounding: Rounding) -> Result<Vec<Vec<i8>>, LowerError> {
    let kernels = program.kernels()?;
    let mut values: Vec<Vec<i8>> =
        program.tensors.iter().map(|t| t.data.as_deref().filter(|_| t.element == Element::Int8).map_or(vec![], signed)).collect();
    for (&tensor, input) in program.inputs.iter().zip(inputs) {
        let (wanted, got) = (program.tensors[tensor].len(), input.len());
        if wanted != got {
            let reason = format!("takes {wanted} integers, {got} were given");
            return Err(LowerError::Value { value: program.tensors[tensor].name.clone(), reason });
        }
        values[tensor] = input.clone();
    }
    for (step, kernel) in program.steps.iter().zip(&kernels) {
        let mut out = vec![0i8; program.tensors[step.output].len()];
        let read: Vec<&[i8]> = step.inputs.iter().map(|&t| values[t].as_slice()).collect();
        kernel.run(&read, &mut out, rounding);
        values[step.output] = out;
    }
    Ok(program.outputs.iter().map(|&t| values[t].clone()).collect())
}

/// A sample as a program's inputs take it: quantized, axes in their order. `sample` has one tensor an input, with a batch
/// of one. Errors on a program that reads floats.
pub fn integers(program: &Program, sample: &[Tensor]) -> Result<Vec<Vec<i8>>, LowerError> {
    let each = program.inputs.iter().zip(&program.input_orders).zip(sample).map(|((&tensor, order), x)| {
        let info = &program.tensors[tensor];
        let Some(q) = &info.quantization else {
            return Err(LowerError::Value { value: info.name.clone(), reason: "is float; quantize the model first".into() });
        };
        let ordered = x.f_permute(order.iter().map(|&a| a as i64).collect::<Vec<_>>())?;
        let values = sinter_model::to_f32s(&ordered)?;
        Ok(values.into_iter().map(|v| q.quantize(v) as i8).collect())
    });
    each.collect()
}

fn signed(bytes: &[u8]) -> Vec<i8> {
    bytes.iter().map(|&b| b as i8).collect()
}
