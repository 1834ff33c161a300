//! Whether a caller's certificate still counts: on a connection that is open, no handshake looks at the list of revoked ones
//! any more. It knows nothing of what the caller wants.

use runtime::grpc;
use runtime::spiffe::Peer;
use tonic::{Extensions, Status};

use crate::ca;
use crate::current::Current;

/// A caller's certificate, as its connection showed it.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    pub(super) peer: Peer,
    serial: Option<String>,
    current: Current,
}

impl Proof {
    /// The certificate of a request's connection, when it counts.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when there is none, or it was revoked.
    pub(super) async fn of(extensions: &Extensions, current: &Current) -> Result<Self, Status> {
        let peer = grpc::peer(extensions)
            .cloned()
            .ok_or_else(|| Status::unauthenticated("connect with a current certificate of this mesh"))?;
        let proof = Self {
            peer,
            serial: grpc::serial(extensions).map(str::to_owned),
            current: current.clone(),
        };
        proof.check().await.map(|()| proof)
    }

    /// Waits until the certificate counts no more, and says why.
    pub(super) async fn lost(&self) -> Status {
        let mut replaced = self.current.replaced();
        loop {
            if let Err(refusal) = self.check().await {
                return refusal;
            }
            if replaced.changed().await.is_err() {
                return Status::unavailable("Citadel is shutting down");
            }
        }
    }

    async fn check(&self) -> Result<(), Status> {
        let own = self.clone();
        // The journal's files may have to be read. What cannot be found out counts as revoked.
        let looking = tokio::task::spawn_blocking(move || {
            let now = ca::now().unix_timestamp();
            own.current
                .is_withdrawn(&own.peer.spiffe_id, own.serial.as_deref(), now)
        });
        if !looking.await.unwrap_or(true) {
            return Ok(());
        }
        let (id, serial) = (&self.peer.spiffe_id, self.serial.as_deref().unwrap_or("unknown"));
        tracing::warn!(target: "citadel::audit", %id, serial, "refused what concerns Secrets: the certificate was revoked");
        Err(Status::unauthenticated(
            "the client certificate was revoked, or all of its identity were and this Citadel has not issued it since: get a new \
             one with a token and connect again",
        ))
    }
}
