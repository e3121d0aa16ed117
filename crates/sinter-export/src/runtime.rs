//! ONNX Runtime inside the process, loaded from a shared library where there is one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use sinter_model::{Graph, to_f32s};
use tch::{Kind, Tensor};

/// Why ONNX Runtime did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The library is not installed.
    #[error("ONNX Runtime is not here: `cargo xtask setup` installs it, or name its library in ORT_DYLIB_PATH")]
    Absent,
    /// The library does not load.
    #[error("ONNX Runtime could not be loaded from {path}: {reason}")]
    Load {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It refused the model or an input.
    #[error("ONNX Runtime: {0}")]
    Runtime(String),
    /// An operation on its answers failed.
    #[error(transparent)]
    Op(#[from] sinter_model::OpError),
    /// What was given can't be parted into steps and samples.
    #[error(transparent)]
    Feed(#[from] sinter_exec::FeedError),
    /// libtorch threw.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl<T> From<ort::Error<T>> for RuntimeError {
    fn from(error: ort::Error<T>) -> Self {
        Self::Runtime(error.to_string())
    }
}

/// What one kernel of a file took.
#[derive(Debug, Clone)]
pub struct KernelTime {
    /// Its operator, as the runtime made it: `QLinearConv`.
    pub kind: String,
    /// The runtime's name for it, made from that of a node or of what the node gives.
    pub name: String,
    /// The time of one run, in microseconds.
    pub micros: f64,
}

/// An entry of the runtime's profile.
#[derive(serde::Deserialize)]
struct ProfileEvent {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: ProfileArguments,
}

#[derive(Default, serde::Deserialize)]
struct ProfileArguments {
    op_name: Option<String>,
}

/// A model file opened by ONNX Runtime, on one thread.
pub struct OnnxRuntime {
    session: Session,
}

/// Set to 1: products of unsigned with signed bytes are added without saturating also on x86 without VNNI, which costs time there. Tests set it, so that
/// they see the same arithmetic on every machine; what a run measures is what users of the runtime get.
const EXACT: &str = "SINTER_ONNX_RUNTIME_EXACT";

fn settings() -> Result<SessionBuilder, RuntimeError> {
    Ok(Session::builder(environment()?)?.with_intra_threads(1)?.with_inter_threads(1)?)
}

fn session(model: &Path) -> Result<Session, RuntimeError> {
    if std::env::var_os(EXACT).is_some_and(|v| v == "1") {
        let exact = settings()?.with_config_entry("session.x64quantprecision", "1")?.commit_from_file(model);
        // The runtime trips over weights that several nodes share, when asked for this.
        if let Ok(session) = exact {
            return Ok(session);
        }
    }
    Ok(settings()?.commit_from_file(model)?)
}

impl OnnxRuntime {
    /// Opens a file. [`RuntimeError::Absent`] when the library is not installed: nothing else should break then.
    pub fn open(model: &Path) -> Result<Self, RuntimeError> {
        Ok(Self { session: session(model)? })
    }

    /// What a file with the inputs and outputs of `graph` answers to a batch of data: its outputs, as [`sinter_exec::feed`] gives them.
    pub fn answer(&mut self, graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, RuntimeError> {
        sinter_exec::feed(graph, inputs, &mut |inputs| self.run_all(inputs))
    }

    /// The first output.
    pub fn run(&mut self, inputs: &[Tensor]) -> Result<Tensor, RuntimeError> {
        let outputs = self.run_all(inputs)?;
        outputs.into_iter().next().ok_or_else(|| RuntimeError::Runtime("the model has no output".into()))
    }

    /// Every output in its own type, for inputs in the order of the file.
    pub fn run_all(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RuntimeError> {
        let names: Vec<String> = self.session.inputs().iter().map(|i| i.name().to_string()).collect();
        let mut values: Vec<(String, ort::value::DynValue)> = Vec::new();
        for (name, x) in names.into_iter().zip(inputs) {
            let shape = x.size();
            let whole = || sinter_model::to_i64s(x);
            let value = match x.kind() {
                Kind::Int64 => ort::value::Tensor::from_array((shape, whole()?))?.into_dyn(),
                Kind::Int => narrow(shape, whole()?, |v| v as i32)?,
                Kind::Int16 => narrow(shape, whole()?, |v| v as i16)?,
                Kind::Int8 => narrow(shape, whole()?, |v| v as i8)?,
                Kind::Uint8 => narrow(shape, whole()?, |v| v as u8)?,
                Kind::Bool => narrow(shape, whole()?, |v| v != 0)?,
                _ => ort::value::Tensor::from_array((shape, to_f32s(x)?))?.into_dyn(),
            };
            values.push((name, value));
        }
        let outputs = self.session.run(values)?;
        let mut tensors = Vec::new();
        for i in 0..outputs.len() {
            tensors.push(taken(&outputs[i])?);
        }
        Ok(tensors)
    }

    /// What every kernel of a file takes on one thread: the mean over the middle half of `runs` runs.
    pub fn profile(model: &Path, inputs: &[Tensor], runs: usize) -> Result<Vec<KernelTime>, RuntimeError> {
        let folder = tempfile::tempdir().map_err(|e| RuntimeError::Runtime(format!("no place for a profile: {e}")))?;
        let mut builder = settings()?.with_profiling(folder.path().join("profile"))?;
        let mut open = Self { session: builder.commit_from_file(model)? };
        for _ in 0..runs.max(1) {
            let _output = open.run_all(inputs)?;
        }
        let file = open.session.end_profiling()?;
        let unread = |what: String| RuntimeError::Runtime(format!("its profile can't be read: {what}"));
        let text = std::fs::read(&file).map_err(|e| unread(e.to_string()))?;
        let events: Vec<ProfileEvent> = serde_json::from_slice(&text).map_err(|e| unread(e.to_string()))?;
        let mut times: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
        for event in events.into_iter().filter(|e| e.cat == "Node") {
            let (Some(name), Some(kind)) = (event.name.strip_suffix("_kernel_time"), event.args.op_name) else { continue };
            times.entry((kind, name.to_string())).or_default().push(event.dur);
        }
        let middle = |mut all: Vec<f64>| {
            all.sort_unstable_by(f64::total_cmp);
            let kept = &all[all.len() / 4..all.len() - all.len() / 4];
            kept.iter().sum::<f64>() / kept.len() as f64
        };
        Ok(times.into_iter().map(|((kind, name), all)| KernelTime { kind, name, micros: middle(all) }).collect())
    }

    /// Median and 95th percentile of the time of one inference, over at least `runs` runs after a warm-up.
    pub fn latency(&mut self, inputs: &[Tensor], runs: usize) -> Result<(Duration, Duration), RuntimeError> {
        for _ in 0..runs.div_ceil(5) {
            let _output = self.run(inputs)?;
        }
        let mut times = Vec::with_capacity(runs);
        for _ in 0..runs.max(1) {
            let started = Instant::now();
            let _output = self.run(inputs)?;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        Ok((times[times.len() / 2], times[times.len() * 95 / 100]))
    }
}

/// A tensor of the runtime's as one of libtorch's.
fn taken(value: &ort::value::DynValue) -> Result<Tensor, RuntimeError> {
    macro_rules! extract {
        ($type:ty) => {{
            let (shape, data) = value.try_extract_tensor::<$type>()?;
            let dims: Vec<i64> = shape.iter().copied().collect();
            Tensor::f_from_slice(data)?.f_reshape(dims)?
        }};
    }
    use ort::value::TensorElementType as Element;
    Ok(match value.dtype().tensor_type() {
        Some(Element::Float64) => extract!(f64),
        Some(Element::Int64) => extract!(i64),
        Some(Element::Int32) => extract!(i32),
        Some(Element::Int16) => extract!(i16),
        Some(Element::Int8) => extract!(i8),
        Some(Element::Uint8) => extract!(u8),
        Some(Element::Bool) => extract!(bool),
        _ => extract!(f32),
    })
}

/// Whole numbers as a type of fewer bits, which holds them.
fn narrow<T>(shape: Vec<i64>, values: Vec<i64>, cast: fn(i64) -> T) -> Result<ort::value::DynValue, RuntimeError>
where
    T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    let values: Vec<T> = values.into_iter().map(cast).collect();
    Ok(ort::value::Tensor::from_array((shape, values))?.into_dyn())
}

/// How far a piece of work raises the memory of the process, in bytes; `None` where the system does not tell.
pub fn peak_memory<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let read = |key: &str| {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix(key))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok().map(|n| n * 1024)
    };
    // Sets the peak back to what is in use now.
    let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = read("VmRSS").filter(|_| reset);
    let result = work();
    let peak = before.and_then(|before| Some(read("VmHWM")?.saturating_sub(before)));
    (result, peak)
}

/// The runtime's version; `None` where it is not installed.
pub fn runtime_version() -> Option<String> {
    environment().ok()?;
    // The set-up writes down what it installed; a library from elsewhere tells the commit that it was built from.
    let written = library().and_then(|path| std::fs::read_to_string(path.with_file_name("VERSION")).ok());
    let commit = || ort::info().split("git-commit-id=").nth(1).and_then(|rest| rest.split(',').next());
    written.map(|v| v.trim().to_string()).or_else(|| commit().map(|c| format!("commit {c}")))
}

/// Loads the library once for the process.
fn environment() -> Result<&'static Environment, RuntimeError> {
    static LOADED: OnceLock<Result<Environment, String>> = OnceLock::new();
    let path = library().ok_or(RuntimeError::Absent)?;
    let loaded = LOADED.get_or_init(|| {
        let builder = ort::init_from(&path).map_err(|e| e.to_string())?;
        builder.with_telemetry(false).build().map_err(|e| e.to_string())
    });
    loaded.as_ref().map_err(|reason| RuntimeError::Load { path, reason: reason.clone() })
}

/// Where the library is: ORT_DYLIB_PATH, or `.runtime/` (in an unpacked archive, `lib/`) in a folder above the program.
fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Some(PathBuf::from(path));
    }
    let program = std::env::current_exe().ok()?;
    let name = format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let places = program.ancestors().skip(1).flat_map(|folder| [".runtime", "lib"].map(|part| folder.join(part).join(&name)));
    places.into_iter().find(|p| p.is_file())
}
