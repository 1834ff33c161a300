//! SDS: gives Envoy the agent's own certificate and roots, the credentials that it names, and new ones as they come.

use std::sync::Arc;

use runtime::Identity;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};
use xds::{
    Server, Source, Table,
    server::{Hello, Limits, StreamId},
    stream::{Event, Settings},
};

use crate::credentials::{Credentials, Held};
use crate::secrets::{self, CERTIFICATE, ROOTS};

/// Streams at once; Envoy opens one for each secret and place of use.
const STREAMS: usize = 1024;
/// Names on one stream that are looked at.
const NAMES: usize = 1000;
/// What the agent answers itself.
const OWN: [&str; 2] = [CERTIFICATE, ROOTS];

/// The source of the agent's secrets: whoever can open its socket may have them.
#[derive(Debug)]
pub struct Secrets {
    tables: watch::Receiver<Arc<Table>>,
    credentials: Credentials,
}

impl Source for Secrets {
    async fn connect(&self, _: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        Ok(self.tables.clone())
    }

    fn observe(&self, stream: StreamId, event: Event) {
        match event {
            Event::Nacked {
                message, suspects, ..
            } => {
                tracing::error!(%stream, ?suspects, "Envoy refuses its secrets: {message}");
            }
            Event::Subscribed { listed, .. } => self.credentials.want(stream, listed, &OWN),
            Event::Closed => self.credentials.want(stream, Vec::new(), &OWN),
            event => tracing::trace!(%stream, ?event, "SDS"),
        }
    }
}

/// Adds the SDS service of `identity` and of Citadel's credentials, which follows both until `end`.
pub fn add(routes: Routes, identity: &Identity, citadel: &str, end: &CancellationToken) -> Routes {
    let credentials = Credentials::default();
    let held = credentials.held();
    let (sender, tables) = watch::channel(secrets::table(&identity.current(), &held.borrow()));
    let following = follow(identity.watch(), held, sender);
    let asking = credentials.clone().run(identity.clone(), citadel.to_owned());
    let forgetting = credentials.clone().forget();
    let end = end.clone();
    tokio::spawn(async move {
        end.run_until_cancelled(async { tokio::join!(following, asking, forgetting) })
            .await
    });
    let stream = Settings {
        listed: NAMES,
        ..Settings::default()
    };
    let limits = Limits {
        stream,
        streams: STREAMS,
        message_bytes: 64 << 10,
        ..Limits::default()
    };
    routes.add_service(Server::new(Secrets { tables, credentials }, limits).sds())
}

async fn follow(
    mut identity: watch::Receiver<Arc<runtime::Svid>>,
    mut held: watch::Receiver<Held>,
    tables: watch::Sender<Arc<Table>>,
) {
    loop {
        let table = {
            let svid = identity.borrow_and_update().clone();
            secrets::table(&svid, &held.borrow_and_update())
        };
        tables.send_if_modified(|current| {
            let changed = **current != *table;
            *current = table;
            changed
        });
        let changed = tokio::select! {
            changed = identity.changed() => changed,
            changed = held.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}
