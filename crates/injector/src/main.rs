//! The binary `injector`.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::prepared_main(
        "injector",
        15018,
        async |args, context| injector::webhook::prepare(args, context).await,
        injector::webhook::run_prepared,
    )
}
