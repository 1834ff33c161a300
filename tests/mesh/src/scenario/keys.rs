//! What comes from outside and changes by itself: the keys of an issuer of tokens, which Galley fetches, and a gateway's
//! certificate, which Citadel hands out.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use testkit::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::tokens::Issuer;
use super::{CHANGE_BOUND, PATIENCE};
use crate::folder::Folder;
use crate::mesh::Mesh;
use crate::table::{Seen, Table};

const PEOPLE: &str = "https://people.example";
const TOKENS: &str = "people.yaml";
const SECURE: &str = "secure.yaml";
/// The gateway's host for TLS.
const HOST: &str = "secure.example.com";

pub(super) async fn rows(mesh: &Mesh, table: &mut Table) {
    let expected = "200 with a token of the issuer, 401 with another's, before and after its keys change, and while it is away";
    table
        .row(
            "RequestAuthentication: keys that Galley fetches",
            expected,
            keys(mesh),
        )
        .await;
    let _ = mesh.folder.remove(TOKENS);
    let expected = "the Secret's certificate, and the next one without a restart";
    table
        .row(
            "Gateway credentialName: a Secret that changes",
            expected,
            credential(mesh),
        )
        .await;
    let _ = mesh.folder.remove(SECURE);
}

/// An issuer's page of keys. Dropped, it is away.
struct Page {
    keys: Arc<Mutex<String>>,
    serving: AbortHandle,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Page {
    async fn serve(address: std::net::SocketAddr, keys: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let keys = Arc::new(Mutex::new(keys));
        let served = keys.clone();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // One read has the whole of so short a request.
                let Ok(1..) = stream.read(&mut [0; 4096]).await else {
                    continue;
                };
                let body = served.lock().map(|keys| keys.clone()).unwrap_or_default();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Ok(Self {
            keys,
            serving: serving.abort_handle(),
        })
    }
}

async fn keys(mesh: &Mesh) -> anyhow::Result<Seen> {
    let (first, second) = (mesh.folder.clone(), other_folder(mesh)?);
    let jwks = |folder: &Folder| folder.read("identity/issuer-jwks.json");
    let token = |folder: &Folder| Issuer::of(folder)?.token(PEOPLE, "alice");
    let (old, new) = (token(&first)?, token(&second)?);
    let address = mesh.block.addr(70, 8000);
    let page = Page::serve(address, jwks(&first)?).await?;
    let rule = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: people, namespace: istio-system}}\n\
         spec:\n  selector: {{matchLabels: {{istio: ingressgateway}}}}\n  \
         jwtRules: [{{issuer: \"{PEOPLE}\", jwksUri: \"http://{address}/keys\"}}]\n"
    );
    mesh.folder.write(TOKENS, rule)?;
    until_only(mesh, &old, &new).await?;
    if let Ok(mut keys) = page.keys.lock() {
        *keys = jwks(&second)?;
    }
    let start = Instant::now();
    until_only(mesh, &new, &old).await?;
    let took = start.elapsed();
    drop(page);
    // Longer than Galley leaves keys alone here.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (good, bad) = (status(mesh, &new).await?, status(mesh, &old).await?);
    let text = format!(
        "new keys in force after {} ms; issuer away: {good} and {bad}",
        took.as_millis()
    );
    Ok(Seen::new((good, bad) == (200, 401), text))
}

/// Another mesh's folder, whose issuer has another key.
fn other_folder(mesh: &Mesh) -> anyhow::Result<Folder> {
    let path = mesh.dir("foreign")?.join("mesh");
    match path.exists() {
        true => Ok(Folder::at(&path)),
        false => Folder::init(&path, &mesh.block),
    }
}

/// Waits until one token is good and the other is not.
async fn until_only(mesh: &Mesh, good: &str, bad: &str) -> anyhow::Result<()> {
    let look = || async {
        let seen = (status(mesh, good).await?, status(mesh, bad).await?);
        anyhow::ensure!(seen == (200, 401), "{seen:?}");
        Ok(())
    };
    wait::until("the issuer's keys in force", PATIENCE, look)
        .await
        .map(drop)
}

async fn status(mesh: &Mesh, token: &str) -> anyhow::Result<u16> {
    let request = mesh.client.get(mesh.ingress_url("/catalog"));
    let request = request
        .header("host", "shop.example.com")
        .header("authorization", format!("Bearer {token}"));
    Ok(request.send().await?.status)
}

async fn credential(mesh: &Mesh) -> anyhow::Result<Seen> {
    let address = mesh.block.addr(1, 8443);
    let first = put_secret(mesh)?;
    mesh.folder.write(
        SECURE,
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: secure, namespace: istio-system}}\n\
             spec:\n  selector: {{istio: ingressgateway}}\n  servers:\n  \
             - {{port: {{number: 8443, name: https, protocol: HTTPS}}, bind: {}, hosts: [{HOST}], tls: {{mode: SIMPLE, credentialName: web}}}}\n\
             ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: secure, namespace: istio-system}}\n\
             spec:\n  hosts: [{HOST}]\n  gateways: [secure]\n  http:\n  \
             - route: [{{destination: {{host: frontend.shop.svc.cluster.local, port: {{number: 7080}}}}}}]\n",
            mesh.block.ip(1)
        ),
    )?;
    until_served(address, &first).await?;
    let second = put_secret(mesh)?;
    anyhow::ensure!(first != second, "the same certificate twice");
    let took = until_served(address, &second).await?;
    Ok(Seen::new(
        took <= CHANGE_BOUND,
        format!("served; the next one after {} ms", took.as_millis()),
    ))
}

/// Waits until the gateway answers a request with a certificate.
async fn until_served(address: std::net::SocketAddr, certificate: &str) -> anyhow::Result<Duration> {
    let look = || async {
        let said = tokio::task::spawn_blocking(move || speak_tls(address)).await??;
        anyhow::ensure!(said.contains(certificate), "another certificate, or none: {said}");
        anyhow::ensure!(said.contains("HTTP/1.1 200"), "no answer: {said}");
        Ok(())
    };
    Ok(
        wait::until("the Secret's certificate at the gateway", PATIENCE, look)
            .await?
            .1,
    )
}

/// What openssl says of a request over TLS: the certificate, and the answer.
fn speak_tls(address: std::net::SocketAddr) -> anyhow::Result<String> {
    use std::io::Write;
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-servername", HOST])
        .args(["-showcerts", "-ign_eof"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("openssl is needed")?;
    if let Some(mut stdin) = client.stdin.take() {
        // Where nobody listens it has ended already.
        let _ = write!(
            stdin,
            "GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n"
        );
    }
    let output = client.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes a new certificate the Secret `web` of the gateway, and gives the first line of its text, by which it is known.
fn put_secret(mesh: &Mesh) -> anyhow::Result<String> {
    let dir = mesh.dir("certificates")?;
    let made = Command::new("openssl")
        .current_dir(&dir)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ])
        .args([
            "-subj",
            "/CN=secure",
            "-addext",
            &format!("subjectAltName=DNS:{HOST}"),
        ])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .output()
        .context("openssl is needed")?;
    anyhow::ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| std::fs::read_to_string(dir.join(name));
    let (key, certificate) = (read("key.pem")?, read("cert.pem")?);
    let indented = |text: &str| {
        text.lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>()
    };
    let secret = format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: web, namespace: istio-system}}\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indented(&certificate),
        indented(&key)
    );
    private_dir(&mesh.folder.file("identity/secrets"))?;
    mesh.folder.write("identity/secrets/web.yaml", secret)?;
    // The line after the mark of the beginning has the serial number.
    Ok(certificate.lines().nth(1).context("no certificate")?.to_owned())
}

fn private_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}
