//! The binary `galley`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::identified_main("galley", galley::run)
}
