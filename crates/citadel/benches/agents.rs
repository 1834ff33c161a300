//! A thousand agents that ask for their first certificate at once: `cargo bench -p citadel --bench agents`.
//!
//! Citadel is a process of its own; the agents share this one, and the machine. Each opens a connection, with a whole
//! handshake, and shows a token of its own. Told are the time until the last has its certificate, and Citadel's memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use support::process::{Process, command};
use support::{Mesh, create_certificate, eventually};
use tokio::sync::Barrier;

const AGENTS: usize = 1000;

/// The most memory that the process has had, in megabytes.
fn peak(process: &Process) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn request() -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap()
}

#[tokio::main]
async fn main() {
    let mesh = Arc::new(Mesh::new());
    let citadel = Process::start(|listen, admin| {
        let mut command = command(&mesh, listen, admin);
        command.stderr(Stdio::null());
        command
    });
    let listen = citadel.listen;
    eventually("Citadel listens", || {
        mesh.path("ca/root-cert.pem").exists() && std::net::TcpStream::connect(listen).is_ok()
    })
    .await;
    println!("Citadel before:        {:.1} MB", peak(&citadel));
    let barrier = Arc::new(Barrier::new(AGENTS + 1));
    let agents: Vec<_> = (0..AGENTS)
        .map(|number| {
            let (mesh, barrier) = (mesh.clone(), barrier.clone());
            let header = format!("Bearer {}", mesh.token("shop", &format!("account-{number}")));
            let request = request();
            tokio::spawn(async move {
                barrier.wait().await;
                let start = Instant::now();
                let answer = create_certificate(&mesh, listen, Some(&header), &request, 0).await;
                answer.map(|_| start.elapsed())
            })
        })
        .collect();
    barrier.wait().await;
    let start = Instant::now();
    let mut times = Vec::new();
    for agent in agents {
        times.push(agent.await.unwrap().expect("each agent is served"));
    }
    let all = start.elapsed();
    times.sort();
    println!("{AGENTS} agents served in: {:.2} s", all.as_secs_f64());
    println!("median of one:         {:.2} s", times[AGENTS / 2].as_secs_f64());
    println!("Citadel at its peak:   {:.1} MB", peak(&citadel));
}
