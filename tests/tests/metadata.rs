//! What a file says beside its graph stays with the model: through stages, and into every file that is written.

use std::collections::BTreeMap;

use prost::Message;
use sinter_estimate::TFLITE;
use sinter_export::{device, explicit, pack, tflite, unpack};
use sinter_fixtures::{everything, noise, parse};
use sinter_onnx::proto::{ModelProto, StringStringEntryProto};
use sinter_onnx::{Options, Storage, load, save};
use sinter_quantize::QuantizeConfig;
use sinter_train::{Context, apply};

#[test]
fn metadata_reaches_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let (given, again) = (folder.path().join("given.onnx"), folder.path().join("again.onnx"));
    let float = everything();
    save(&float, &given, Storage::Inside).unwrap();
    // As other tools write it: an alphabet over several lines, a note, and documentation of the file.
    let mut proto = ModelProto::decode(&std::fs::read(&given).unwrap()[..]).unwrap();
    let texts = [("character", "0\n1\n中\n \"<&"), ("author", "somebody")];
    let entry = |(key, value): (&str, &str)| StringStringEntryProto { key: key.into(), value: value.into() };
    proto.metadata_props = texts.map(entry).to_vec();
    proto.doc_string = "what it is for".into();
    std::fs::write(&given, proto.encode_to_vec()).unwrap();
    let wanted: BTreeMap<String, String> =
        texts.into_iter().chain([("doc_string", "what it is for")]).map(|(k, v)| (k.into(), v.into())).collect();

    let model = load(&given, &Options::default()).unwrap();
    assert_eq!(model.graph.metadata, wanted);
    let shape: Vec<i64> = model.graph.inputs[0].concrete(1)[1..].to_vec();
    let data = noise(folder.path(), &shape);
    let quantized = apply(&parse::<QuantizeConfig>("{ samples: 4 }"), model, &Context::alone(&data, &TFLITE)).unwrap();
    explicit(&quantized).unwrap().save(&again).unwrap();
    assert_eq!(load(&again, &Options::default()).unwrap().graph.metadata, wanted);
    let written = ModelProto::decode(&std::fs::read(&again).unwrap()[..]).unwrap();
    assert_eq!((written.doc_string.as_str(), written.metadata_props.len()), ("what it is for", 2));
    assert_eq!(unpack(&pack(&quantized).unwrap().bytes).unwrap().graph.metadata, wanted);
    let bytes = tflite(&device::lower(&quantized).unwrap());
    assert_eq!(sinter_tflite::import(&bytes).unwrap().graph.metadata, wanted);
}
