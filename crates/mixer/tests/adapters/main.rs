//! The samples of docs/adapters, each run by a Mixer against its real backend.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod checks;
mod support;
mod telemetry;

use support::{mixer_with, pages, sample};
use testkit::Rundir;

#[tokio::test]
async fn every_page_has_a_sample_that_loads() {
    let index = std::fs::read_to_string(pages().join("README.md")).unwrap();
    let folder = Rundir::new("argosy-handlers").unwrap();
    for file in std::fs::read_dir(pages()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let page = name.strip_suffix(".md").unwrap();
        if page == "README" {
            continue;
        }
        assert!(index.contains(&format!("({name})")), "{name} is not in the index");
        let args = mixer::Args {
            handler_files: Some(folder.path().to_owned()),
            ..mixer::Args::default()
        };
        mixer_with(&sample(page), args).await;
    }
}
