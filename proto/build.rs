//! Compiles the contracts with protox, so that no protoc is needed.
#![allow(clippy::disallowed_methods, reason = "a build script is told where to write by its environment")]

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 6] = [
    "toolcrib/types/v1/types.proto",
    "toolcrib/registry/v1/registry.proto",
    "toolcrib/selector/v1/selector.proto",
    "toolcrib/executor/v1/executor.proto",
    "toolcrib/permissions/v1/permissions.proto",
    "toolcrib/audit/v1/audit.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(out, descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .compile_fds_with_config(descriptors, config)?;
    println!("cargo::rerun-if-changed=toolcrib");
    Ok(())
}
