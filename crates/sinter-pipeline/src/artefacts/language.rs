//! Files of language models, for the programs that run them.

use std::path::PathBuf;

use sinter_report::ArtifactRow;
use sinter_train::Event;

use super::{ArtefactError, Writer};

impl Writer<'_> {
    /// The folder that the model came from: what is written takes its tokenizer and configuration along.
    fn folder_of_model(&self) -> PathBuf {
        let named = self.plan.config.model.huggingface.as_deref().unwrap_or("".as_ref());
        self.plan.folder.join(named)
    }

    /// A folder as the compressed-tensors library has it.
    pub(super) fn compressed_tensors(&mut self) -> Result<(), ArtefactError> {
        let place = self.place("compressed-tensors");
        std::fs::create_dir_all(&place).map_err(ArtefactError::io(&place))?;
        sinter_hub::compressed_tensors::write(self.result.model, &self.folder_of_model(), &place)?;
        let mut bytes = 0;
        for entry in std::fs::read_dir(&place).map_err(ArtefactError::io(&place))? {
            let length = entry.and_then(|e| e.metadata()).map_err(ArtefactError::io(&place))?.len();
            bytes += length;
        }
        (self.events)(Event::Artifact { path: place, bytes });
        let what =
            "A folder for transformers and vLLM (compressed-tensors); its values were read back and are those that were measured"
                .to_string();
        self.done.files.push(ArtifactRow { path: "artifacts/compressed-tensors".into(), what, bytes, ..ArtifactRow::default() });
        Ok(())
    }

    /// A GGUF file.
    pub(super) fn gguf(&mut self) -> Result<(), ArtefactError> {
        let notes = sinter_hub::gguf::write(self.result.model, &self.folder_of_model(), &self.place("model.gguf"))?;
        notes.into_iter().for_each(|text| (self.events)(Event::Note { text }));
        self.add("model.gguf", "A file for llama.cpp; its values were decoded again and are those that were measured")
    }
}
