//! Makes folders of configuration: services with endpoints, spread over namespaces, and changes of them. A file is replaced
//! by renaming, as careful writers do.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// What is in a folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) services: u32,
    pub(crate) endpoints: u32,
    pub(crate) namespaces: u32,
    /// Whether a service is exported to its own namespace only.
    pub(crate) private: bool,
}

/// What a change does to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// None; the service as it was at the beginning.
    None,
    /// Its first endpoint moves to this address.
    Endpoint(Ipv4Addr),
    /// An annotation that means nothing.
    Annotation(u32),
    /// Another DNS name beside the first.
    Host(u32),
}

/// A folder that is being measured.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    pub(crate) world: World,
}

impl Folder {
    /// Writes all services below `root`.
    pub(crate) fn create(root: &Path, world: World) -> io::Result<Self> {
        let folder = Self {
            root: root.to_owned(),
            world,
        };
        for service in 0..world.services {
            let path = folder.path(service);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, folder.text(service, Change::None))?;
        }
        Ok(folder)
    }

    pub(crate) fn namespace(&self, service: u32) -> String {
        format!("ns-{:02}", service % self.world.namespaces.max(1))
    }

    fn path(&self, service: u32) -> PathBuf {
        self.root
            .join(format!("{}/svc-{service:05}.yaml", self.namespace(service)))
    }

    /// Changes one service.
    pub(crate) fn change(&self, service: u32, change: Change) -> io::Result<()> {
        let path = self.path(service);
        let hidden = path.with_file_name(format!(".svc-{service:05}.new"));
        fs::write(&hidden, self.text(service, change))?;
        fs::rename(hidden, path)
    }

    fn text(&self, service: u32, change: Change) -> String {
        let namespace = self.namespace(service);
        let host = format!("svc-{service:05}.{namespace}.bench.example");
        let annotation = match change {
            Change::Annotation(value) => format!(", annotations: {{example.com/note: \"{value}\"}}"),
            _ => String::new(),
        };
        let mut text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: svc-{service:05}, namespace: {namespace}{annotation}}}\nspec:\n  hosts:\n  - {host}\n"
        );
        if let Change::Host(number) = change {
            text.push_str(&format!("  - other-{number}.{host}\n"));
        }
        text.push_str("  ports:\n  - {number: 80, name: http, protocol: HTTP}\n  location: MESH_INTERNAL\n  resolution: STATIC\n");
        if self.world.private {
            text.push_str("  exportTo: [\".\"]\n");
        }
        text.push_str("  endpoints:\n");
        for endpoint in 0..self.world.endpoints {
            let address = match change {
                Change::Endpoint(address) if endpoint == 0 => address,
                _ => address(service, endpoint),
            };
            text.push_str(&format!(
                "  - {{address: {address}, labels: {{app: svc-{service:05}}}}}\n"
            ));
        }
        text
    }
}

/// An address in 10.0.0.0/8, for each endpoint another.
fn address(service: u32, endpoint: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | (((service << 6) | (endpoint & 63)) & 0x00ff_ffff))
}

/// The address that a change's number gives, outside of those in use; its text is in no other address.
pub(crate) fn mark(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xac10_0000 | (number & 0x000f_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_in_its_file_alone() {
        let root = tempfile::tempdir().unwrap();
        let world = World {
            services: 6,
            endpoints: 2,
            namespaces: 3,
            private: true,
        };
        let folder = Folder::create(root.path(), world).unwrap();
        let read = |service| fs::read_to_string(folder.path(service)).unwrap();
        let others: Vec<String> = (0..5).map(read).collect();
        let before = read(5);
        folder.change(5, Change::Endpoint(mark(7))).unwrap();
        let after = read(5);
        assert_eq!(after.replace("172.16.0.7", "10.0.1.64"), before);
        assert_eq!((0..5).map(read).collect::<Vec<_>>(), others);
        assert_eq!(fs::read_dir(root.path().join("ns-02")).unwrap().count(), 2);
    }
}
