//! The process's own figures, by the names that Prometheus' client libraries give them, from Linux' /proc.
//!
//! Where /proc cannot be read a figure is left out.

use std::fmt::Write;
use std::fs;

/// Ticks per second in /proc/self/stat: part of Linux' interface to programs (USER_HZ).
const TICKS: f64 = 100.0;

/// The figures as lines of Prometheus' text format.
pub(super) fn text() -> String {
    let mut out = String::new();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fds = fs::read_dir("/proc/self/fd").ok().map(|dir| count(dir.count()));
    let figures = [
        (
            "process_cpu_seconds_total",
            "counter",
            "CPU time used, in seconds",
            cpu_seconds(&stat),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory, in bytes",
            kilobytes(&status, "VmRSS:"),
        ),
        ("process_threads", "gauge", "Threads", field(&stat, 19)),
        ("process_open_fds", "gauge", "Open file descriptors", fds),
        (
            "process_start_time_seconds",
            "gauge",
            "Start, in seconds since 1970",
            start_seconds(&stat, &boot),
        ),
    ];
    for (name, kind, help, value) in figures {
        if let Some(value) = value {
            // Writing to a String does not fail.
            let _ = write!(
                out,
                "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        }
    }
    out
}

/// A field of /proc/self/stat, counted from 1 as in proc(5). The second one, the name, may have spaces in it.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name
        .split_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

fn start_seconds(stat: &str, boot: &str) -> Option<f64> {
    let boot: f64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(boot + field(stat, 22)? / TICKS)
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024.0)
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_spaces() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 5 0 1000 9 9";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(start_seconds(stat, "cpu 1\nbtime 500\n"), Some(510.0));
        assert_eq!(
            kilobytes("VmPeak: 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"),
            Some(12288.0)
        );
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn this_process_has_all_figures() {
        let text = text();
        for name in [
            "cpu_seconds_total",
            "resident_memory_bytes",
            "threads",
            "open_fds",
            "start_time_seconds",
        ] {
            let line = format!("process_{name} ");
            assert!(text.lines().any(|l| l.starts_with(&line)), "no {line} in\n{text}");
        }
    }
}
