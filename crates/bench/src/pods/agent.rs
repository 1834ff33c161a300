//! What a pod's agent asks for: a certificate from Citadel by the pod's token, by the code that the real agent has, again until
//! there is one; and a connection to Pilot that shows it.
//!
//! It does not know where tokens come from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::args::IdentityArgs;
use runtime::logging::LogHandle;
use runtime::tls::{self, Connector};
use runtime::{Context, Identity, SpiffeId, TrustDomain, grpc};
use tempfile::TempDir;
use tonic::transport::Channel;

/// Trust domain of the mesh, the charts' own.
const TRUST_DOMAIN: &str = "cluster.local";

/// What all agents know.
#[derive(Debug)]
pub(super) struct Mesh {
    citadel: String,
    pilot: String,
    trust_domain: TrustDomain,
    folder: TempDir,
}

/// One pod's identity.
#[derive(Debug)]
pub(super) struct Agent {
    pilot: String,
    trust_domain: TrustDomain,
    identity: Identity,
}

impl Mesh {
    /// Addresses HOST:PORT, and the mesh's roots (PEM).
    pub(super) fn new(citadel: &str, pilot: &str, roots: &str) -> anyhow::Result<Self> {
        let mesh = Self {
            citadel: citadel.to_owned(),
            pilot: pilot.to_owned(),
            trust_domain: TRUST_DOMAIN.parse()?,
            folder: tempfile::tempdir()?,
        };
        std::fs::write(mesh.roots(), roots)?;
        Ok(mesh)
    }

    fn roots(&self) -> PathBuf {
        self.folder.path().join("root-cert.pem")
    }

    pub(super) async fn agent(&self, number: u32, token: &str) -> anyhow::Result<Agent> {
        let path = self.folder.path().join(format!("token-{number}"));
        tokio::fs::write(&path, token).await?;
        let args = IdentityArgs {
            citadel_address: self.citadel.clone(),
            ca_root: self.roots(),
            token: path,
            trust_domain: self.trust_domain.clone(),
        };
        let context = Context::new("bench", LogHandle::detached(), Duration::ZERO);
        let identity = Identity::from_citadel(&args, &context).await?;
        Ok(Agent {
            pilot: self.pilot.clone(),
            trust_domain: self.trust_domain.clone(),
            identity,
        })
    }
}

impl Agent {
    /// The connection of the pod's Envoy to Pilot.
    pub(super) fn channel(&self) -> anyhow::Result<Channel> {
        let pilot = SpiffeId::system(&self.trust_domain, "pilot")?;
        let config = tls::client(Arc::new(self.identity.clone()), pilot)?;
        Ok(grpc::channel(&self.pilot, Some(Connector::new(config)))?)
    }
}
