//! What others could read on the wire.

use anyhow::Context;
use mesh::Seen;

use crate::day::{Day, SHOP};

/// What nobody but the two ends should see.
const SECRET: &str = "argosy-secret-4711";

impl Day {
    /// Requests with a secret header, by plain HTTP from the node to `frontend` and through the mesh from there to `catalog`,
    /// while all of the node's packets are captured.
    pub(crate) fn capture(&self) -> anyhow::Result<Seen> {
        let addresses: Vec<String> = self
            .pods(SHOP, "app=catalog")?
            .iter()
            .filter_map(|pod| Some(pod["status"]["podIP"].as_str()?.to_owned()))
            .collect();
        anyhow::ensure!(!addresses.is_empty(), "catalog has no pods");
        let url = format!("http://{}:8080", self.ip("frontend", SHOP)?);
        let url = format!("{url}/call?host=catalog:8080&count=20&header=x-secret:{SECRET}");
        // In one shell: the capture begins before the requests and ends after them.
        let script = format!(
            "dir=$(mktemp -d); tcpdump -i any -n --immediate-mode -s 0 -A tcp port 8080 >$dir/out 2>$dir/err & pid=$!
             until grep -q listening $dir/err; do kill -0 $pid || {{ cat $dir/err >&2; exit 1; }}; sleep 0.1; done
             curl --silent --fail --max-time 60 '{url}' >$dir/answer || exit 1
             sleep 1; kill -INT $pid; wait $pid; cat $dir/out; rm -r $dir"
        );
        let text = self.cluster.shell(&script).context("the capture")?;
        let packets = packets(&text);
        let inside = |packet: &&String| {
            let head = packet.lines().next().unwrap_or_default();
            addresses.iter().any(|ip| head.contains(&format!(" {ip}.8080")))
        };
        let mesh: Vec<&String> = packets.iter().filter(inside).collect();
        let readable = mesh.iter().filter(|packet| packet.contains(SECRET)).count();
        let control = packets.iter().filter(|packet| packet.contains(SECRET)).count();
        let text = format!(
            "{readable} of {} packets to and from catalog have the header; {control} of those before frontend do",
            mesh.len()
        );
        Ok(Seen::new(readable == 0 && control > 0 && mesh.len() >= 20, text))
    }
}

/// The packets that tcpdump prints: a line with the time and the addresses, and what is in it.
fn packets(text: &str) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_head = line.contains(" IP ") && line.contains(" > ") && line.contains("Flags [");
        match packets.last_mut() {
            Some(packet) if !is_head => {
                packet.push_str(line);
                packet.push('\n');
            }
            _ => packets.push(format!("{line}\n")),
        }
    }
    packets
}
