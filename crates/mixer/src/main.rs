//! The binary `mixer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::identified_main("mixer", mixer::run)
}
