//! `argosy init`: a sample folder to start from. The YAML is in `sample/`; the keys and tokens are made here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use citadel::ca::{Authority, files};
use citadel::token::{Grant, IssuerKey, mint};
use config::{Object, Spec};
use runtime::TrustDomain;

/// The sample's files.
const FILES: [(&str, &str); 8] = [
    ("mesh.yaml", include_str!("sample/mesh.yaml")),
    ("identity.yaml", include_str!("sample/identity.yaml")),
    ("services.yaml", include_str!("sample/services.yaml")),
    ("workloads.yaml", include_str!("sample/workloads.yaml")),
    ("sidecars.yaml", include_str!("sample/sidecars.yaml")),
    ("gateway.yaml", include_str!("sample/gateway.yaml")),
    ("traffic.yaml", include_str!("sample/traffic.yaml")),
    ("security.yaml", include_str!("sample/security.yaml")),
];
const MIXER: (&str, &str) = ("mixer.yaml", include_str!("sample/mixer.yaml"));

/// The mesh's own services, whose tokens are made too, so that they can run as processes of their own.
const SERVICES: [&str; 3] = ["galley", "mixer", "pilot"];
const SYSTEM_NAMESPACE: &str = "argosy-system";
const TRUST_DOMAIN: &str = "cluster.local";
/// As in `sample/identity.yaml`.
const ISSUER: &str = "https://issuer.argosy.local";
const AUDIENCE: &str = "argosy-ca";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder to make; it must not exist yet or be empty
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How long the tokens are good for
    #[arg(long, value_name = "DURATION", value_parser = runtime::args::duration, default_value = "720h")]
    token_ttl: Duration,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let dir = &args.dir;
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; name a new folder", dir.display());
    }
    for (name, text) in FILES.iter().chain([&MIXER]) {
        write(&dir.join(name), text)?;
    }
    let identity = dir.join("identity");
    Authority::load_or_create(&identity.join("ca"), &TrustDomain::parse(TRUST_DOMAIN)?)?;
    let count = tokens(&identity, args.token_ttl)?;
    println!("{}", next_steps(dir, count));
    Ok(())
}

/// Makes the issuer's key and a token for each service account that the sample's workloads use.
fn tokens(identity: &Path, lifetime: Duration) -> anyhow::Result<usize> {
    let key = IssuerKey::generate()?;
    files::write_atomic(&identity.join("issuer-key.pem"), key.to_pem().as_bytes(), 0o600)?;
    files::write_atomic(&identity.join("issuer-jwks.json"), key.jwks()?.as_bytes(), 0o644)?;
    let accounts = accounts();
    let issued_at = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    for (namespace, account) in &accounts {
        let grant = Grant {
            issuer: ISSUER,
            audience: AUDIENCE,
            namespace,
            account,
            issued_at,
            lifetime,
        };
        let folder = identity.join("tokens").join(namespace);
        files::private_dir(&folder)?;
        files::write_atomic(
            &folder.join(format!("{account}.jwt")),
            mint(&key, &grant)?.as_bytes(),
            0o600,
        )?;
    }
    Ok(accounts.len())
}

fn accounts() -> BTreeSet<(String, String)> {
    let workloads: Vec<Object> = FILES
        .iter()
        .flat_map(|(name, text)| config::parse(name, text.as_bytes(), "default").objects)
        .collect();
    let of_workloads = workloads.into_iter().filter_map(|object| match object.spec {
        Spec::WorkloadEntry(entry) => Some((object.meta.namespace, entry.service_account.clone())),
        _ => None,
    });
    let of_services = SERVICES
        .iter()
        .map(|name| (SYSTEM_NAMESPACE.to_owned(), (*name).to_owned()));
    of_workloads.chain(of_services).collect()
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::write(path, text)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn next_steps(dir: &Path, tokens: usize) -> String {
    let dir = dir.display();
    format!(
        "{dir} holds a sample mesh: configuration, a root certificate and {tokens} tokens.\n\
         \n\
         argosy validate {dir}          says what is wrong with it\n\
         argosy run --config {dir}      runs the control plane\n\
         argosy-agent --workload shop/catalog-v1 --ca-root {dir}/identity/ca/root-cert.pem \\\n\
         \x20   --token {dir}/identity/tokens/shop/catalog.jwt --envoy PATH   runs a workload's proxy"
    )
}
