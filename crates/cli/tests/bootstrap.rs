//! `argosy bootstrap`'s output in a stock Envoy, connected to a running Pilot over mutual TLS, in both variants of the protocol.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use testkit::net::Block;

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A mesh in a folder, and all services of it.
struct Mesh {
    block: Block,
    folder: tempfile::TempDir,
    _argosy: Running,
}

impl Mesh {
    /// One workload, and a host that its proxy answers for with this status.
    fn start(status: u16) -> Mesh {
        let (block, folder) = (Block::take().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(folder.path().join("mesh")).unwrap();
        let at = |port| block.addr(1, port).to_string();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mesh = |name: &str| folder.path().join(name);
        write(&mesh("mesh"), &block, status);
        let child = Command::new(env!("CARGO_BIN_EXE_argosy"))
            .arg("run")
            .args(["--config".as_ref(), mesh("mesh").as_os_str()])
            .args(["--ca-dir".as_ref(), mesh("ca").as_os_str()])
            .args(["--state-dir".as_ref(), mesh("state").as_os_str()])
            .args(["--pilot-address", &at(15012), "--citadel-address", &at(15013)])
            .args(["--galley-address", &at(15019), "--mixer-address", &at(15004)])
            .args(["--prometheus-address", &at(15090), "--admin-address", &at(15014)])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Mesh {
            block,
            folder,
            _argosy: Running(child),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A certificate of the mesh's own root for an account, as `NAME.pem` and `NAME-key.pem`.
    fn certificate(&self, account: &str) {
        let file = |name: &str| {
            let path = self.path(&format!("ca/{name}"));
            wait(|| fs::read_to_string(&path).ok(), || self.log("log"))
        };
        // One is there before the other.
        let (root, signer) = (file("root-cert.pem"), file("root-key.pem"));
        let issuer = Issuer::from_ca_cert_pem(&root, KeyPair::from_pem(&signer).unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let id = format!("spiffe://cluster.local/ns/w/sa/{account}");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id).unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let made = params.signed_by(&key, &issuer).unwrap();
        fs::write(self.path(&format!("{account}.pem")), made.pem()).unwrap();
        fs::write(self.path(&format!("{account}-key.pem")), key.serialize_pem()).unwrap();
    }

    /// An Envoy with the bootstrap that `argosy` prints, and the certificate of an account.
    fn envoy(&self, account: &str, more: &[&str]) -> Running {
        let file = |name: String| self.path(&name).display().to_string();
        let printed = Command::new(env!("CARGO_BIN_EXE_argosy"))
            .args(["bootstrap", "--workload", "w/client"])
            .args(["--address", &self.block.ip(10).to_string()])
            .args(["--pilot-address", &self.block.addr(1, 15012).to_string()])
            .args(["--certificate", &file(format!("{account}.pem"))])
            .args(["--key", &file(format!("{account}-key.pem"))])
            .args(["--ca-root", &file("ca/root-cert.pem".to_owned())])
            .args(["--admin-address", &self.block.addr(10, 15000).to_string()])
            .args(more)
            .output()
            .unwrap();
        assert!(printed.status.success(), "{printed:?}");
        fs::write(self.path("envoy.json"), &printed.stdout).unwrap();
        let log = fs::File::create(self.path("envoy.log")).unwrap();
        let child = Command::new(testkit::envoy::binary().unwrap())
            .args([
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "--log-level",
                "warning",
                "-c",
            ])
            .arg(self.path("envoy.json"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Waits until the proxy answers for the host with a status.
    fn answers(&self, status: u16) {
        let at = self.block.addr(10, 8080);
        let seen = || get(at).filter(|seen| *seen == status).map(drop);
        wait(seen, || format!("{} {}", self.log("envoy.log"), self.log("log")));
    }
}

fn write(folder: &Path, block: &Block, status: u16) {
    let text = format!(
        r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: client, namespace: w}}
spec: {{address: {}, serviceAccount: client, labels: {{app: client}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: out, namespace: w}}
spec: {{hosts: [out.example], location: MESH_EXTERNAL, resolution: STATIC, ports: [{{number: 8080, name: http, protocol: HTTP}}], endpoints: [{{address: {}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: out, namespace: w}}
spec: {{hosts: [out.example], http: [{{directResponse: {{status: {status}}}}}]}}
"#,
        block.ip(10),
        block.ip(20)
    );
    fs::write(folder.join("objects.yaml"), text).unwrap();
}

/// Tries until there is something, for a minute.
fn wait<T>(mut seen: impl FnMut() -> Option<T>, otherwise: impl Fn() -> String) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(seen) = seen() {
            return seen;
        }
        assert!(Instant::now() < until, "{}", otherwise());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The status of one request.
fn get(address: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = "GET / HTTP/1.1\r\nhost: out.example\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).ok()?;
    let text = String::from_utf8_lossy(answer.get(..length)?).into_owned();
    text.split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_stock_envoy_follows_pilot_with_it() {
    let mesh = Mesh::start(299);
    mesh.certificate("client");
    for more in [&[][..], &["--sotw"]] {
        let _envoy = mesh.envoy("client", more);
        mesh.answers(299);
        write(&mesh.path("mesh"), &mesh.block, 298);
        mesh.answers(298);
        write(&mesh.path("mesh"), &mesh.block, 299);
    }
}

#[test]
fn a_certificate_of_another_account_gets_nothing() {
    let mesh = Mesh::start(299);
    mesh.certificate("other");
    let _envoy = mesh.envoy("other", &[]);
    let refused = || mesh.log("envoy.log").contains("sa/other").then_some(());
    wait(refused, || {
        format!("{} {}", mesh.log("envoy.log"), mesh.log("log"))
    });
    assert!(
        TcpStream::connect(mesh.block.addr(10, 8080)).is_err(),
        "no listener"
    );
}
