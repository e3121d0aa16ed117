//! The tensors of a folder: one safetensors file, or several and an index. Mapped into memory, read one tensor at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::error::HubError;

/// The file of a model in one piece.
pub(crate) const WHOLE: &str = "model.safetensors";
/// What says in which file each tensor lies, where they are several.
const INDEX: &str = "model.safetensors.index.json";

/// One file, mapped.
struct Shard {
    map: Mmap,
    /// Where the tensors begin.
    start: usize,
    tensors: Metadata,
}

/// All tensors of a folder.
pub(crate) struct Shards {
    shards: Vec<Shard>,
    /// In which shard each tensor lies.
    places: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// Opens every file and checks every header: what is missing or cut off is told before anything is computed.
    pub fn open(folder: &Path) -> Result<Self, HubError> {
        let index = folder.join(INDEX);
        if !index.is_file() {
            let whole = folder.join(WHOLE);
            if !whole.is_file() {
                let reason = format!("it holds neither {WHOLE} nor {INDEX}: weights are read from safetensors");
                return Err(HubError::format(folder, reason));
            }
            let shard = Shard::open(whole)?;
            let places = shard.tensors.offset_keys().into_iter().map(|name| (name, 0)).collect();
            return Ok(Self { shards: vec![shard], places });
        }
        let text = std::fs::read_to_string(&index).map_err(HubError::read(&index))?;
        let Index { weight_map } = serde_json::from_str(&text).map_err(|e| HubError::format(&index, e))?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let plain = |name: &str| Path::new(name).file_name().is_some_and(|file| file == name);
        if let Some(bad) = names.iter().find(|name| !plain(name)) {
            return Err(HubError::format(&index, format!("`{bad}` is no name of a file of this folder")));
        }
        let shards = names.iter().map(|name| Shard::open(folder.join(name))).collect::<Result<Vec<_>, _>>()?;
        let at: BTreeMap<&String, usize> = names.iter().enumerate().map(|(at, name)| (*name, at)).collect();
        for (tensor, file) in &weight_map {
            if shards[at[file]].tensors.info(tensor).is_none() {
                return Err(HubError::format(&index, format!("it says that `{tensor}` lies in {file}, and it does not")));
            }
        }
        let places = weight_map.iter().map(|(tensor, file)| (tensor.clone(), at[file])).collect();
        Ok(Self { shards, places })
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.places.keys()
    }

    /// A tensor as float32, of this shape.
    pub fn float(&self, name: &str, shape: &[i64]) -> Result<Tensor, HubError> {
        let Some(&at) = self.places.get(name) else {
            return Err(HubError::tensor(name, "config.json asks for it, and the weights do not hold it"));
        };
        let shard = &self.shards[at];
        let gone = || HubError::tensor(name, "the weights do not hold it any more");
        let info = shard.tensors.info(name).ok_or_else(gone)?;
        let (from, to) = info.data_offsets;
        let bytes = shard.map.get(shard.start + from..shard.start + to).ok_or_else(gone)?;
        let found: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        if found != shape {
            return Err(HubError::tensor(name, format!("its shape is {found:?}, and config.json makes it {shape:?}")));
        }
        let kind = match info.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            other => {
                let reason = format!(
                    "its elements are {other:?}: a float model is wanted (F32, F16, BF16), not one that is quantized already"
                );
                return Err(HubError::tensor(name, reason));
            }
        };
        let tensor = Tensor::f_from_data_size(bytes, shape, kind)?.f_to_kind(Kind::Float)?;
        if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(HubError::tensor(name, "it holds NaN or infinity"));
        }
        Ok(tensor)
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, HubError> {
        let file = File::open(&path).map_err(HubError::read(&path))?;
        // SAFETY: the map is only read. A file that somebody else cuts short meanwhile would end the program, as it would end any that maps files.
        let map = unsafe { Mmap::map(&file) }.map_err(HubError::read(&path))?;
        let read = SafeTensors::read_metadata(&map);
        let (header, tensors) =
            read.map_err(|e| HubError::format(&path, format!("it is no whole safetensors file ({e}): fetch it again")))?;
        // The length of the header stands before it.
        Ok(Self { start: size_of::<u64>() + header, map, tensors })
    }
}
