//! A model as measuring, tables and exporters look at it: each view is computed once.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use sinter_estimate::{Footprint, MemoryEstimate};
use sinter_exec::ExecError;
use sinter_export::device::{self, LowerError, Program};
use sinter_export::{PackError, Packed, pack, tflite, unpack};
use sinter_model::{Model, OpError};
use tch::Tensor;

/// Why a model could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It does not run; names the node.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It can't be packed; names the weight.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The packed file is wrong.
    #[error("the packed file does not give back weight `{0}` bit for bit; please report this")]
    PackMismatch(String),
    /// A weight has no value.
    #[error("weight `{weight}`: {source}")]
    Weight {
        /// Its name.
        weight: String,
        /// What went wrong.
        source: OpError,
    },
    /// It has no program for devices; names the node.
    #[error("this model has no TFLite file: {0}")]
    Device(#[from] LowerError),
}

/// A model that no longer changes, and views of it.
pub(crate) struct Snapshot<'a> {
    pub model: &'a Model,
    effective: OnceCell<BTreeMap<String, Tensor>>,
    packed: OnceCell<Packed>,
    program: OnceCell<Program>,
    flatbuffer: OnceCell<Vec<u8>>,
    footprint: OnceCell<Footprint>,
    memory: OnceCell<MemoryEstimate>,
}

fn once<T, E>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
    match cell.get() {
        Some(made) => Ok(made),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made))
        }
    }
}

impl<'a> Snapshot<'a> {
    pub fn new(model: &'a Model) -> Self {
        Self {
            model,
            effective: OnceCell::new(),
            packed: OnceCell::new(),
            program: OnceCell::new(),
            flatbuffer: OnceCell::new(),
            footprint: OnceCell::new(),
            memory: OnceCell::new(),
        }
    }

    /// The values that inference sees, by weight.
    pub fn effective(&self) -> Result<&BTreeMap<String, Tensor>, SnapshotError> {
        once(&self.effective, || {
            let values = self.model.weights.iter().map(|(name, weight)| {
                let value = weight.effective().and_then(|v| Ok(v.f_detach()?));
                Ok((name.clone(), value.map_err(|source| SnapshotError::Weight { weight: name.clone(), source })?))
            });
            values.collect()
        })
    }

    /// The packed file, read back: every effective weight came back bit for bit.
    pub fn packed(&self) -> Result<&Packed, SnapshotError> {
        once(&self.packed, || {
            let packed = pack(self.model)?;
            let back = unpack(&packed.bytes)?;
            let back = Snapshot::new(&back);
            let values = back.effective()?;
            for (name, value) in self.effective()? {
                if !values.get(name).is_some_and(|other| same_bits(value, other)) {
                    return Err(SnapshotError::PackMismatch(name.clone()));
                }
            }
            Ok(packed)
        })
    }

    /// The program for devices.
    pub fn program(&self) -> Result<&Program, SnapshotError> {
        once(&self.program, || Ok(device::lower(self.model)?))
    }

    /// The same as a TFLite file.
    pub fn flatbuffer(&self) -> Result<&[u8], SnapshotError> {
        once(&self.flatbuffer, || Ok(tflite(self.program()?))).map(Vec::as_slice)
    }

    /// Operations and bytes of one inference.
    pub fn footprint(&self) -> Result<&Footprint, SnapshotError> {
        once(&self.footprint, || Ok(sinter_estimate::footprint(self.model)?))
    }

    /// Memory of weights and activations.
    pub fn memory(&self) -> Result<&MemoryEstimate, SnapshotError> {
        once(&self.memory, || Ok(sinter_estimate::memory(self.model)?))
    }
}

fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let equal = || a.f_eq_tensor(b)?.f_all()?.f_int64_value(&[]);
    a.kind() == b.kind() && a.size() == b.size() && equal().is_ok_and(|all| all != 0)
}
