//! Files for devices: TFLite, what Vela makes of it, and C source.

use std::path::Path;

use sinter_data::Order;
use sinter_estimate::{Measure, Vela};
use sinter_export::{arena, c, device};
use sinter_model::{Bytes, write_whole};
use sinter_report::{ArtifactRow, NpuRow};
use sinter_train::Event;

use super::{ArtefactError, Writer};

impl Writer<'_> {
    pub(super) fn tflite(&mut self) -> Result<(), ArtefactError> {
        let path = self.place("model.tflite");
        write_whole(&path, self.result.flatbuffer()?)?;
        let mut what = "The compressed model for LiteRT, TensorFlow Lite Micro and Vela; images channels last".to_string();
        match self.arena()? {
            Some(Ok(bytes)) => what += &format!("; its arena in TensorFlow Lite Micro is {}, measured", Bytes(bytes as u64)),
            Some(Err(reason)) => what += &format!("; TensorFlow Lite Micro refuses it: {reason}"),
            None => {}
        }
        if let Some(settings) = &self.plan.target.vela {
            match vela(&path, settings) {
                Some(Ok(row)) => self.done.npu = Some(row),
                Some(Err(reason)) => what += &format!("; Vela refuses it: {reason}"),
                None => what += "; not compiled by Vela, which `cargo xtask setup --runtimes` installs",
            }
        }
        self.add("model.tflite", &what)
    }

    /// What TensorFlow Lite Micro takes for the model: `None` where it is not installed. It is asked once.
    fn arena(&mut self) -> Result<Option<Result<usize, String>>, ArtefactError> {
        if let Some(asked) = &self.arena {
            return Ok(asked.clone());
        }
        // It reads a file; this one is nobody else's and goes away with its folder.
        let scratch = tempfile::tempdir().map_err(ArtefactError::io(&std::env::temp_dir()))?;
        let probe = scratch.path().join("model.tflite");
        write_whole(&probe, self.result.flatbuffer()?)?;
        Ok(self.arena.insert(arena(&probe)).clone())
    }

    /// Writes the folder of C source; its test vector is the first test sample.
    pub(super) fn c_source(&mut self) -> Result<(), ArtefactError> {
        let Some(batch) = self.plan.data.test.batches(1, Order::Stored).next() else { return Ok(()) };
        let program = self.result.program()?;
        let sample = device::integers(program, &batch?.inputs)?;
        let place = self.place("c");
        std::fs::create_dir_all(&place).map_err(ArtefactError::io(&place))?;
        let source = c::source(program, self.result.flatbuffer()?, &sample, self.arena()?.and_then(Result::ok))?;
        let mut bytes = 0;
        for (name, content) in &source.files {
            write_whole(&place.join(name), content)?;
            bytes += content.len() as u64;
        }
        (self.events)(Event::Artifact { path: place.clone(), bytes });
        let what = "C99 source for a microcontroller, with its test vector, and the TFLite file as an array".to_string();
        let row = ArtifactRow { path: "artifacts/c".into(), what, bytes, ..ArtifactRow::default() };
        let row = self.compiled(&place, row);
        self.done.files.push(row);
        Ok(())
    }

    /// What a compiler makes of the source, where there is one, and where compiling and running it was asked for: a model from outside is
    /// data until then.
    fn compiled(&self, place: &Path, mut row: ArtifactRow) -> ArtifactRow {
        let trusted = self.execute || self.plan.config.model.zoo.is_some();
        let allowed = |what: Measure| trusted || self.plan.target.measure.contains(&what);
        if allowed(Measure::Run)
            && let Some(Err(reason)) = c::answers_its_test(place)
        {
            row.note = Some(format!("the test vector is not answered: {reason}"));
        }
        if !allowed(Measure::Compile) {
            let how = "`sinter run --measure`, or `measure:` of the target, does it";
            row.note = Some(format!("not compiled: the model came from outside; {how}"));
            return row;
        }
        match c::measure(place, self.plan.target.core) {
            Some(Ok(size)) => {
                row.flash = Some(size.flash);
                row.ram = Some(size.ram);
                row.note = row.note.or(Some(size.compiler));
            }
            Some(Err(reason)) => row.note = row.note.or(Some(format!("did not compile: {reason}"))),
            None => {
                let reason = match self.plan.target.core {
                    Some(core) => format!(
                        "not compiled: arm-none-eabi-gcc, for {}, is not here: `cargo xtask setup --boards` installs it",
                        core.name()
                    ),
                    None => "not compiled: there is no C compiler here".into(),
                };
                row.note = row.note.or(Some(reason));
            }
        }
        row
    }
}

/// What Vela makes of a file: `None` where it is not installed.
fn vela(file: &Path, settings: &Vela) -> Option<Result<NpuRow, String>> {
    let compiled = sinter_export::vela(file, &settings.accelerator)?;
    Some(compiled.map(|c| NpuRow {
        tool: c.version,
        accelerator: settings.accelerator.clone(),
        cycles: c.cycles,
        seconds: c.cycles as f64 / (settings.clock_mhz * 1e6),
        sram: c.sram,
        flash: c.flash,
        on_cpu: c.on_cpu,
    }))
}
