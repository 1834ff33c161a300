//! What the services of a cluster need, whose processes can be seen from here: on its only node.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use crate::process::{Cpu, Memory, megabytes};

/// Names of the services' processes.
const NAMES: [&str; 5] = ["citadel", "galley", "injector", "mixer", "pilot"];

#[derive(Debug, Clone)]
struct Service {
    cpu: Cpu,
    memory: Memory,
}

/// All processes of the services, at one moment.
#[derive(Debug, Clone)]
pub(super) struct Services(BTreeMap<(String, u32), Service>);

impl Services {
    pub(super) fn now() -> anyhow::Result<Self> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let entry = entry?;
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let name = name.trim().to_owned();
            if !NAMES.contains(&name.as_str()) {
                continue;
            }
            // One that ends meanwhile is none.
            if let (Ok(cpu), Ok(memory)) = (Cpu::of(pid), Memory::of(pid)) {
                all.insert((name, pid), Service { cpu, memory });
            }
        }
        Ok(Self(all))
    }

    /// A line for each process: its memory then and now, and the processor time between.
    pub(super) fn table(&self, before: &Self) -> String {
        let mut table = format!(
            "{:10} {:>10} {:>10} {:>10} {:>12}\n",
            "process", "MB before", "MB now", "MB peak", "CPU s"
        );
        for (key, now) in &self.0 {
            let Some(then) = before.0.get(key) else { continue };
            let _ = writeln!(
                table,
                "{:10} {:10.0} {:10.0} {:10.0} {:12.2}",
                key.0,
                megabytes(then.memory.resident),
                megabytes(now.memory.resident),
                megabytes(now.memory.peak),
                now.cpu.since(&then.cpu).as_secs_f64()
            );
        }
        table
    }
}
