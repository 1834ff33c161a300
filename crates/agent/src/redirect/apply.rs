//! Gives rules to the kernel by the tools that are there: `iptables-restore` or `nft`, and `ip` for TPROXY.
//!
//! What an earlier run set up is taken away first, so a restarted pod has its rules once.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::args::Args;
use super::rule::{Family, Rule};
use super::rules::rules;
use super::settings::{Settings, SettingsError, name_servers};
use super::{iptables, nftables, routes};

/// Where this machine's name servers are named.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Interfaces with addresses of IPv6.
const INTERFACES_V6: &str = "/proc/net/if_inet6";

/// Redirection could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A flag.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No tool.
    #[error("neither iptables-restore nor nft is on PATH; the image of the proxy must have one of them")]
    NoTool,
    /// A tool cannot be run.
    #[error("cannot run {tool}: {source}; the image of the proxy must have it")]
    Run {
        /// The tool.
        tool: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A tool refused.
    #[error(
        "{tool} failed: {said}; redirection needs NET_ADMIN and NET_RAW in the pod's network namespace, and the kernel's modules for it"
    )]
    Refused {
        /// The tool.
        tool: String,
        /// What it said.
        said: String,
    },
}

/// The tool that rules are given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
    /// `nft`.
    Nft,
}

/// A step of setting up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What it reads.
    pub input: String,
    /// Whether it may fail: there may be nothing to take away.
    pub may_fail: bool,
}

/// `argosy-agent istio-iptables`: prints one line when it fails.
#[must_use]
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("argosy-agent istio-iptables: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), ApplyError> {
    let servers = name_servers(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    let settings = Settings::read(args, &servers)?;
    let tool = tool(args.native_nftables, std::env::var_os("PATH").as_deref())?;
    let interfaces = std::fs::read_to_string(INTERFACES_V6).unwrap_or_default();
    let families = families(&interfaces);
    let steps: Vec<Step> = families
        .iter()
        .flat_map(|family| steps(&settings, *family, tool, args.cleanup_only))
        .collect();
    for step in &steps {
        match args.dry_run {
            true => print!("{}", shown(step)),
            false => do_step(step)?,
        }
    }
    Ok(())
}

/// IPv6 where an interface other than loopback has an address of it (scope global, `00`).
fn families(interfaces: &str) -> Vec<Family> {
    let global = interfaces.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields.as_slice(), [_, _, _, "00", _, name] if *name != "lo")
    });
    if global {
        vec![Family::V4, Family::V6]
    } else {
        vec![Family::V4]
    }
}

/// The tool that is there; `nft` where both are and it is asked for.
fn tool(native: bool, path: Option<&OsStr>) -> Result<Tool, ApplyError> {
    let folders: Vec<_> = std::env::split_paths(path.unwrap_or_default()).collect();
    let has = |name: &str| {
        folders
            .iter()
            .any(|folder| Path::new(folder).join(name).is_file())
    };
    match (has("iptables-restore"), has("nft")) {
        (_, true) if native => Ok(Tool::Nft),
        (true, _) => Ok(Tool::Iptables),
        (false, true) => Ok(Tool::Nft),
        (false, false) => Err(ApplyError::NoTool),
    }
}

/// What is done for a family, in order: what an earlier run left goes, then rules and routes come.
#[must_use]
pub fn steps(settings: &Settings, family: Family, tool: Tool, cleanup_only: bool) -> Vec<Step> {
    let rules = rules(settings, family);
    let ip = |may_fail| {
        move |arguments: Vec<String>| Step {
            command: [vec!["ip".to_owned()], arguments].concat(),
            input: String::new(),
            may_fail,
        }
    };
    let mut steps = removal(&rules, family, tool);
    steps.extend(routes::removal(settings, family).into_iter().map(ip(true)));
    if !cleanup_only {
        steps.extend(routes::own_address(settings, family).map(ip(true)));
        steps.extend(setup(&rules, family, tool));
        steps.extend(routes::setup(settings, family).into_iter().map(ip(false)));
    }
    steps
}

fn restore(family: Family) -> Vec<String> {
    let tool = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    [tool, "--noflush", "--wait=30"].map(str::to_owned).to_vec()
}

fn nft() -> Vec<String> {
    ["nft", "-f", "-"].map(str::to_owned).to_vec()
}

fn setup(rules: &[Rule], family: Family, tool: Tool) -> Option<Step> {
    let (command, input) = match tool {
        Tool::Iptables => (restore(family), iptables::render(rules)),
        Tool::Nft => (nft(), nftables::render(family, rules)),
    };
    (!input.is_empty()).then_some(Step {
        command,
        input,
        may_fail: false,
    })
}

fn removal(rules: &[Rule], family: Family, tool: Tool) -> Vec<Step> {
    let (command, inputs) = match tool {
        Tool::Iptables => (restore(family), iptables::removal(rules)),
        Tool::Nft => (nft(), vec![nftables::removal(family)]),
    };
    let step = |input| Step {
        command: command.clone(),
        input,
        may_fail: true,
    };
    inputs.into_iter().map(step).collect()
}

fn shown(step: &Step) -> String {
    format!("# {}\n{}", step.command.join(" "), step.input)
}

fn do_step(step: &Step) -> Result<(), ApplyError> {
    let Some((tool, arguments)) = step.command.split_first() else {
        return Ok(());
    };
    let failed = |source| ApplyError::Run {
        tool: tool.clone(),
        source,
    };
    let started = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Err(_) if step.may_fail => return Ok(()),
        started => started.map_err(failed)?,
    };
    if let Some(mut input) = child.stdin.take() {
        // A tool that ends early says why itself.
        _ = input.write_all(step.input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() || step.may_fail {
        return Ok(());
    }
    Err(ApplyError::Refused {
        tool: tool.clone(),
        said: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_counts_where_an_interface_has_an_address_of_it() {
        let lo = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let link = "fe800000000000000000000000000001 02 40 20 80     eth0\n";
        let global = "fd000000000000000000000000000001 02 40 00 80     eth0\n";
        assert_eq!(families(""), [Family::V4]);
        assert_eq!(families(&format!("{lo}{link}")), [Family::V4]);
        assert_eq!(families(&format!("{lo}{global}")), [Family::V4, Family::V6]);
    }

    #[test]
    fn the_tool_is_the_one_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().as_os_str());
        assert!(matches!(tool(false, path), Err(ApplyError::NoTool)));
        std::fs::write(folder.path().join("nft"), "").unwrap();
        assert_eq!(tool(false, path).unwrap(), Tool::Nft);
        std::fs::write(folder.path().join("iptables-restore"), "").unwrap();
        assert_eq!(tool(false, path).unwrap(), Tool::Iptables);
        assert_eq!(tool(true, path).unwrap(), Tool::Nft);
    }
}
