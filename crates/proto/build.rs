//! Generates Rust from the `.proto` files at the top of the repository. `protox` compiles them, so that
//! building needs no `protoc`.

use std::error::Error;

const FILES: [&str; 8] = [
    "argosy/ca/v1/credential.proto",
    "argosy/ca/v1/trust.proto",
    "argosy/feed/v1/distribution.proto",
    "argosy/feed/v1/feed.proto",
    "argosy/sample/v1/echo.proto",
    "istio/mixer/v1/attributes.proto",
    "istio/mixer/v1/mixer.proto",
    "istio/v1/auth/ca.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = "../../proto";
    println!("cargo::rerun-if-changed={root}");
    let descriptors = protox::compile(FILES, [root])?;
    // Sorted maps: equal objects must have equal bytes, since versions are hashes of them.
    tonic_prost_build::configure()
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
