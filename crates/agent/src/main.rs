//! `argosy-agent`: one proxy's agent.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = agent::envoy::guard::become_envoy(std::env::args_os()) {
        return code;
    }
    ExitCode::SUCCESS
}
