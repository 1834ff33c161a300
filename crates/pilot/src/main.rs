//! The binary `pilot`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::identified_main("pilot", 15014, pilot::run)
}
