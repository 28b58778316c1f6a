//! The embedder on the pack of the checkout: as the model's own tokenizer and its float weights have it, and against
//! every kind of broken pack. `tokens.json` and `vectors.json` come from the reference implementations in Python.

use crate::{Embedder, Fault, Mode, Vector};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/all-minilm-l6-v2");

fn open(mode: Mode) -> Embedder {
    Embedder::open(Some(Path::new(PACK)), mode).unwrap()
}

fn one(embedder: &Embedder, text: &str) -> Vector {
    embedder.embed(&[text]).remove(0)
}

#[test]
fn tokens_are_those_of_the_reference() {
    let embedder = open(Mode::Static);
    let cases: Vec<(String, Vec<u32>)> = serde_json::from_str(include_str!("tests/tokens.json")).unwrap();
    assert!(cases.len() > 40);
    for (text, wanted) in cases {
        assert_eq!(embedder.token_ids(&text), wanted, "{text:?}");
    }
}

#[test]
fn a_text_cannot_end_itself() {
    let embedder = open(Mode::Static);
    let marked = embedder.token_ids("one [SEP] two [CLS]");
    assert_eq!(marked, embedder.token_ids("one [ sep ] two [ cls ]"));
    assert!(!marked.contains(&102) && !marked.contains(&101));
}

#[test]
fn vectors_are_close_to_those_of_the_float_model() {
    let embedder = open(Mode::Full);
    let cases: Vec<(String, Vec<f32>)> = serde_json::from_str(include_str!("tests/vectors.json")).unwrap();
    let texts: Vec<&str> = cases.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(embedder.dimension(), 384);
    for (vector, (text, wanted)) in embedder.embed(&texts).iter().zip(&cases) {
        let cosine = vector.dot(&Vector::of(wanted));
        assert!(cosine > 0.98 && vector.dimension() == 384, "{cosine} for {text:?}");
    }
}

#[test]
fn a_text_has_one_vector_whatever_it_is_embedded_with() {
    let long = "many words ".repeat(400);
    let texts =
        ["book a table", "", "translate this text into French", &long, "the weather in Rome", "\u{0}"];
    for mode in [Mode::Full, Mode::Static] {
        let embedder = open(mode);
        assert_eq!(embedder.mode(), mode);
        let together = embedder.embed(&texts);
        let alone: Vec<Vector> = texts.iter().map(|text| one(&embedder, text)).collect();
        assert!(together == alone, "{mode:?}");
        assert!(together.iter().all(|vector| vector.dimension() == embedder.dimension()));
        assert_eq!(together[1].is_zero(), mode == Mode::Static);
        assert!(embedder.embed(&[]).is_empty());
    }
}

#[test]
fn what_means_the_same_is_near() {
    let (question, near, far) = (
        "Will it rain in Paris tomorrow?",
        "Get the weather forecast for a city",
        "Translate a document into another language",
    );
    for mode in [Mode::Full, Mode::Static] {
        let embedder = open(mode);
        let vectors = embedder.embed(&[question, near, far]);
        let (near, far) = (vectors[0].dot(&vectors[1]), vectors[0].dot(&vectors[2]));
        assert!(near > far + 0.1, "{mode:?}: {near} and {far}");
    }
}

#[test]
fn ids_tell_vectors_apart() {
    let (full, fast) = (open(Mode::Full), open(Mode::Static));
    assert!(full.model_id().starts_with("all-minilm-l6-v2/full/"), "{}", full.model_id());
    assert_ne!(full.model_id(), fast.model_id());
    assert_eq!(full.model_id(), open(Mode::Full).model_id());
    // Another table is another model, even of the same name.
    let copy = Copy::new();
    let other = format!("{} ", fs::read_to_string(copy.file("vocab.txt")).unwrap().trim_end());
    let longer =
        safetensors(&[("scales", "F32", vec![1], vec![0; 4]), ("tokens", "I8", vec![1, 2], vec![1, 2])]);
    copy.replace("static.safetensors", &longer);
    copy.replace("vocab.txt", b"[UNK]");
    assert!(matches!(copy.open(Mode::Static), Err(Fault::Damaged { .. })), "no [CLS]");
    copy.replace("vocab.txt", b"[UNK]\n[CLS]\n[SEP]\n");
    assert!(copy.fault(Mode::Static).contains("another model"), "three tokens, and a table of one");
    copy.replace("vocab.txt", other.as_bytes());
    copy.replace("static.safetensors", &fs::read(Path::new(PACK).join("static.safetensors")).unwrap());
    assert_ne!(copy.open(Mode::Static).unwrap().model_id(), fast.model_id());
}

#[test]
fn a_broken_model_is_a_fault_and_leaves_the_static_mode() {
    let copy = Copy::new();
    let model = copy.file("model.safetensors");
    let whole = fs::read(&model).unwrap();
    fs::write(&model, &whole[..whole.len() / 2]).unwrap();
    assert!(copy.fault(Mode::Full).contains("bytes where the manifest says"));
    let mut flipped = whole.clone();
    flipped[1_000_000] ^= 1;
    fs::write(&model, &flipped).unwrap();
    assert!(copy.fault(Mode::Full).contains("SHA-256"));
    fs::remove_file(&model).unwrap();
    assert!(copy.fault(Mode::Full).contains("cannot be read"));
    fs::create_dir(&model).unwrap();
    assert!(copy.fault(Mode::Full).contains("cannot be read"));
    assert_eq!(copy.open(Mode::Static).unwrap().mode(), Mode::Static);
}

#[test]
fn a_file_of_another_model_is_a_fault() {
    let copy = Copy::new();
    let swapped = fs::read(copy.file("static.safetensors")).unwrap();
    copy.replace("model.safetensors", &swapped);
    assert!(copy.fault(Mode::Full).contains("another model"), "{}", copy.fault(Mode::Full));
    let small = safetensors(&[("embeddings.word_embeddings.weight", "I8", vec![2, 2], vec![1; 4])]);
    copy.replace("model.safetensors", &small);
    assert!(copy.fault(Mode::Full).contains("I8 [2, 2]"), "{}", copy.fault(Mode::Full));
    // Headers that lie about themselves: too long, no JSON, offsets outside the file or the wrong way round.
    let lies: [&[u8]; 6] = [
        b"",
        b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
        b"\x02\0\0\0\0\0\0\0{x",
        br#"A.......{"tokens":{"dtype":"I8","shape":[1,2],"data_offsets":[9,4]}}"#,
        br#"A.......{"tokens":{"dtype":"I8","shape":[1,2],"data_offsets":[0,2]}}"#,
        br#"M.......{"tokens":{"dtype":"I8","shape":[99999999999999999,99999999999],"data_offsets":[0,0]}}"#,
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut file = lie.to_vec();
        if file.len() > 20 {
            let length = file.len() as u64 - 8;
            file[..8].copy_from_slice(&length.to_le_bytes());
        }
        copy.replace("static.safetensors", &file);
        assert!(matches!(copy.open(Mode::Static), Err(Fault::Damaged { .. })), "lie {number}");
    }
}

#[test]
fn a_folder_without_a_pack_is_a_fault() {
    let folder = TempDir::new().unwrap();
    let open = |path: &Path| Embedder::open(Some(path), Mode::Static).unwrap_err().to_string();
    let missing = folder.path().join("nothing");
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    for path in [folder.path(), &missing, &file] {
        let words = open(path);
        assert!(words.contains(path.to_str().unwrap()) && words.contains("put the folder"), "{words}");
    }
    let manifest = folder.path().join("manifest.json");
    for (text, wanted) in [
        ("{", "is no manifest"),
        (r#"{"format":2,"name":"x","files":{}}"#, "has format 2"),
        (r#"{"format":1,"name":"x","files":{}}"#, "says nothing of vocab.txt"),
    ] {
        fs::write(&manifest, text).unwrap();
        assert!(open(folder.path()).contains(wanted), "{wanted}");
    }
}

#[test]
fn the_pack_of_the_checkout_is_found_and_of_its_size() {
    assert!(Embedder::open(None, Mode::Static).is_ok());
    let size = |entry: fs::DirEntry| entry.metadata().unwrap().len();
    let all: u64 = fs::read_dir(PACK).unwrap().map(|entry| size(entry.unwrap())).sum();
    assert!(all < 35 << 20, "{all} bytes");
}

/// A copy of the pack to break.
struct Copy(TempDir);

impl Copy {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for entry in fs::read_dir(PACK).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file there, and into the manifest, as somebody would who makes another pack.
    fn replace(&self, name: &str, bytes: &[u8]) {
        fs::write(self.file(name), bytes).unwrap();
        let mut manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(self.file("manifest.json")).unwrap()).unwrap();
        let sha256 = hex::encode(Sha256::digest(bytes));
        manifest["files"][name] = serde_json::json!({ "sha256": sha256, "bytes": bytes.len() });
        fs::write(self.file("manifest.json"), manifest.to_string()).unwrap();
    }

    fn open(&self, mode: Mode) -> Result<Embedder, Fault> {
        Embedder::open(Some(self.0.path()), mode)
    }

    fn fault(&self, mode: Mode) -> String {
        self.open(mode).unwrap_err().to_string()
    }
}

fn safetensors(tensors: &[(&str, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(
            (*name).to_owned(),
            serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }),
        );
        data.extend(bytes);
    }
    let header = serde_json::Value::from(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}
