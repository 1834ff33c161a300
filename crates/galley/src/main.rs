//! The binary `galley`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::identified_main("galley", 15016, galley::run)
}
