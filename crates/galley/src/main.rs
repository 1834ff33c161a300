//! The binary `galley`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::prepared_main(
        "galley",
        15016,
        async |args, context| galley::prepare(args, context).await,
        galley::run_prepared,
    )
}
