//! The binary `mixer`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::identified_main("mixer", 15015, mixer::run)
}
