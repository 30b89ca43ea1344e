//! Runs vector files against the in-memory ledger and the check flow, each vector as a test.
//!
//! The project's own vectors are in `tests/conformance/vectors`; further folders are named by the
//! environment variable `SCHEMATIC_VECTORS`, separated by `:`. The format is told in
//! `tests/conformance/README.md`.

#![allow(
    clippy::expect_used,
    reason = "a broken vector file is to stop its test"
)]

mod checks;
mod comparison;
mod engine;
mod fields;
mod run;
mod service;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};

use crate::{fields::text_of, run::Run};

const OWN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/conformance/vectors"
);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = folders().iter().flat_map(|folder| trials(folder)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn folders() -> Vec<PathBuf> {
    let named = std::env::var("SCHEMATIC_VECTORS").unwrap_or_default();
    let named = named.split(':').filter(|folder| !folder.is_empty());
    std::iter::once(OWN)
        .chain(named)
        .map(PathBuf::from)
        .collect()
}

fn trials(folder: &Path) -> Vec<Trial> {
    let Ok(entries) = fs::read_dir(folder) else {
        let missing = format!("the folder {} cannot be read", folder.display());
        return vec![Trial::test(folder.display().to_string(), move || {
            Err(missing.into())
        })];
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Trial> {
    let text = fs::read(file).expect("the file is there");
    let content: Value = serde_json::from_slice(&text).expect("a vector file is JSON");
    let stem = file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let vectors = content["vectors"].as_array().cloned().unwrap_or_default();
    assert!(!vectors.is_empty(), "{} holds no vectors", file.display());
    assert!(
        vectors.iter().all(expects),
        "a vector in {} expects nothing",
        file.display()
    );
    vectors
        .into_iter()
        .filter(|vector| {
            vector["backends"]
                .as_array()
                .is_none_or(|names| names.contains(&json!("in_memory")))
        })
        .map(|vector| {
            let name = format!("{stem}::{}", text_of(&vector, "name"));
            // What only a whole client does is for the runner in Python; here it is counted.
            let for_clients = vector["layer"] == "client";
            Trial::test(name, move || Run::new(&vector).run(&vector)).with_ignored_flag(for_clients)
        })
        .collect()
}

/// A vector that expects nothing could not fail.
fn expects(vector: &Value) -> bool {
    let operations = vector["operations"].as_array().into_iter().flatten();
    operations
        .into_iter()
        .any(|operation| operation.get("expect").is_some())
}
