//! Models and data of the pipelines that need more than set-up brings: `cargo xtask data NAME`.

use std::path::Path;

use crate::repository::root;
use crate::setup::{debian, wheel};
use crate::{python, shell};

/// What can be brought.
struct Bundle {
    name: &'static str,
    what: &'static str,
    bring: fn() -> Result<(), String>,
}

const BUNDLES: [Bundle; 1] = [Bundle {
    name: "vad",
    what: "pipelines/vad-silero.yaml: silero-vad, and speech in noise from Debian's phrases",
    bring: vad,
}];

/// Brings what a name stands for.
pub fn bring(names: &[String]) -> Result<(), String> {
    let list = || BUNDLES.iter().map(|b| format!("  {:<8} {}", b.name, b.what)).collect::<Vec<_>>().join("\n");
    if names.is_empty() {
        return Err(format!("cargo xtask data NAME, of:\n{}", list()));
    }
    for name in names {
        match BUNDLES.iter().find(|bundle| bundle.name == name) {
            Some(bundle) => (bundle.bring)()?,
            None => return Err(format!("there is no data `{name}`; there are:\n{}", list())),
        }
    }
    Ok(())
}

/// A voice activity detector with a state, and sequences of frames to judge it by.
fn vad() -> Result<(), String> {
    let place = root().join(".cache/vad");
    let (model, arrays) = (place.join("silero_vad.onnx"), place.join("speech-in-noise.npz"));
    std::fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    if !model.is_file() {
        let wheel = wheel::fetch("silero-vad==6.2.3")?;
        wheel::extract(&wheel, &place, &|name| name.ends_with("/data/silero_vad.onnx").then(|| "silero_vad.onnx".into()))?;
        wheel::forget(&wheel);
    }
    if !arrays.is_file() {
        let python = python::environment(".cache/python/data", "configs/data/make/requirements.txt")?;
        debian::unpacked("asterisk-core-sounds-en-wav", &mut |folder| {
            let made = place.join("made.npz");
            let script = root().join("configs/data/make/vad.py");
            let arguments = [&script, folder, &made].map(|p: &Path| p.display().to_string());
            shell::run(&python, &arguments.each_ref().map(String::as_str), &root())?;
            std::fs::rename(&made, &arrays).map_err(|e| format!("{}: {e}", arrays.display()))
        })
        .map_err(|e| format!("{e}; unpack the phrases somewhere and run configs/data/make/vad.py FOLDER {}", arrays.display()))?;
    }
    println!("{}\n{}\nnow: sinter run pipelines/vad-silero.yaml", model.display(), arrays.display());
    Ok(())
}
