// SPDX-License-Identifier: Apache-2.0
//! Generates `src/generated` of creditd-client from the protos, without a protoc: `cargo run -p creditd-client-codegen`.
//!
//! With `--check` it writes nothing and fails when the committed code is not what the protos give.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let protos = client.join("../../protos");
    let committed = client.join("src/generated");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => generate(&protos, &committed),
        ["--check"] => check(&protos, &committed),
        _ => Err("usage: creditd-client-codegen [--check]".into()),
    }
}

/// Writes one file for each proto package: `creditd.v1.rs` and `google.type.rs`.
fn generate(protos: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let includes = [protos.to_owned(), protos.join("third_party")];
    fs::create_dir_all(out)?;

    let money = protox::compile([includes[1].join("google/type/money.proto")], &includes)?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(money)?;
    // The package's last part is a keyword of Rust.
    fs::rename(out.join("google.r#type.rs"), out.join("google.type.rs"))?;

    let mut files = files_in(&protos.join("creditd/v1"))?;
    files.sort();
    tonic_prost_build::configure()
        .build_server(false)
        .extern_path(".google.type", "crate::google_type")
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(protox::compile(files, &includes)?)?;
    Ok(())
}

fn check(protos: &Path, committed: &Path) -> Result<(), Box<dyn Error>> {
    let fresh = std::env::temp_dir().join(format!("creditd-client-codegen-{}", std::process::id()));
    let stale = generate(protos, &fresh).and_then(|()| differences(&fresh, committed));
    fs::remove_dir_all(&fresh)?;
    let stale = stale?;
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!(
        "clients/rust is stale: {}; run 'make -C clients/rust generate' and commit the result",
        stale.join(", ")
    )
    .into())
}

/// Names of the files that are not the same in both folders, or are in one only.
fn differences(one: &Path, other: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = BTreeSet::new();
    for file in [files_in(one)?, files_in(other)?].concat() {
        names.extend(file.file_name().map(ToOwned::to_owned));
    }
    let mut different = Vec::new();
    for name in names {
        let (one, other) = (one.join(&name), other.join(&name));
        if !one.exists() || !other.exists() || fs::read(one)? != fs::read(other)? {
            different.push(name.to_string_lossy().into_owned());
        }
    }
    Ok(different)
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}
