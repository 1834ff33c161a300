//! The connected proxies: what each should have, and what it has accepted. One registry feeds the streams, the debug
//! pages and the metrics.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use config::{Finding, ObjectKey};
use envoygen::{Proxy, Scope, Settings};
use feed::distribution::ObjectProgress;
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::gauge::Gauge;
use runtime::Peer;
use serde_json::{Value, json};
use tokio::sync::watch;
use xds::server::StreamId;
use xds::table::TypeTable;
use xds::{Event, Table, TypeUrl};

use crate::access::{self, Denied};
use crate::epoch::Epoch;
use crate::metrics::{PilotMetrics, RejectLabel, TypeLabel};
use crate::report::behind::{self, Seen};
use crate::report::{counts, delta};
use crate::status::{Status, short};
use crate::tables::{Part, ProxyTable, Tables};
use crate::timeline::Timeline;

/// Where a node's metadata has the version of its agent.
const VERSION: &str = "ARGOSY_VERSION";

/// Where an agent says that a stream with its proxy's node id is its own, and what for.
const STREAM: &str = "ARGOSY_STREAM";

/// A proxy with an open stream.
struct Connected {
    proxy: Arc<Proxy>,
    scope: Arc<Scope>,
    node: String,
    peer: Option<Peer>,
    wanted: ProxyTable,
    sender: watch::Sender<Arc<Table>>,
    status: Status,
    /// The newest table that it has answered all of.
    synced: Option<Arc<Table>>,
    /// The epoch whose table it has not accepted yet.
    pending: Option<Arc<Epoch>>,
}

/// All proxies, and the tables of the newest snapshot.
pub struct Proxies {
    settings: Settings,
    metrics: PilotMetrics,
    tables: RwLock<Option<(Arc<Epoch>, Arc<Tables>)>>,
    streams: Mutex<BTreeMap<StreamId, Connected>>,
    /// Findings that are in the log already.
    told: Mutex<BTreeSet<String>>,
    /// Counts what may change how far objects have come.
    changes: AtomicU64,
    timeline: Timeline,
}

impl Proxies {
    /// No proxies and no snapshot yet.
    #[must_use]
    pub fn new(settings: Settings, metrics: PilotMetrics) -> Self {
        Self {
            settings,
            metrics,
            tables: RwLock::default(),
            streams: Mutex::default(),
            told: Mutex::default(),
            changes: AtomicU64::new(0),
            timeline: Timeline::default(),
        }
    }

    /// A number that is another one when [`Self::progress`] may be.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// How far each object has come among the proxies; `None` before the first snapshot.
    #[must_use]
    pub fn progress(&self) -> Option<BTreeMap<ObjectKey, ObjectProgress>> {
        let tables = self.tables()?;
        let seen: Vec<Seen> = {
            let streams = self.streams.lock();
            streams
                .values()
                .filter(|each| each.is_proxy())
                .map(Connected::seen)
                .collect()
        };
        let counts = counts::count(&behind::proxies(&seen));
        let objects = tables.generator().snapshot().objects();
        Some(delta::progress(objects.values().map(|object| &**object), &counts))
    }

    /// What became of the newest pushes.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// What a proxy should have, which is asked for by its node id or `NAME.NAMESPACE`.
    #[must_use]
    pub fn wanted(&self, asked: &str) -> Option<ProxyTable> {
        let streams = self.streams.lock();
        let meant = streams.values().find(|each| each.is_meant(asked));
        meant.map(|each| each.wanted.clone())
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &PilotMetrics {
        &self.metrics
    }

    /// The newest snapshot's tables; `None` before the first.
    #[must_use]
    pub fn tables(&self) -> Option<Arc<Tables>> {
        self.tables.read().as_ref().map(|(_, tables)| tables.clone())
    }

    /// Takes a new snapshot up: each stream gets its new table. Uses the processor for as long as generation takes.
    pub fn advance(&self, epoch: &Arc<Epoch>) {
        self.timeline.begin(epoch.number, epoch.seen);
        let previous = self.tables();
        let tables = Tables::new(epoch.snapshot.clone(), &self.settings, previous.as_deref());
        let tables = Arc::new(tables);
        *self.tables.write() = Some((epoch.clone(), tables.clone()));
        self.describe(epoch);
        let mut findings: BTreeSet<String> = generator_findings(&tables);
        let open: Vec<StreamId> = self.streams.lock().keys().copied().collect();
        let mut told: HashSet<*const Part> = HashSet::new();
        let (connected, mut changed) = (open.len(), 0);
        for id in open {
            let now = self.streams.lock().get(&id).map(Connected::now);
            let Some((proxy, peer, scope, before)) = now else {
                continue;
            };
            if let Err(denied) = access::check(&epoch.snapshot, &proxy, peer.as_ref()) {
                self.dismiss(id, &denied);
                continue;
            }
            let scope = tables.scope(&proxy, Some(&scope));
            let wanted = tables.of_scope(&scope, &proxy, Some(&before));
            for part in wanted
                .parts()
                .iter()
                .filter(|part| told.insert(Arc::as_ptr(part)))
            {
                findings.extend(part.findings.iter().map(Finding::to_string));
            }
            if let Some(connected) = self.streams.lock().get_mut(&id) {
                changed += usize::from(connected.advance(scope, wanted, epoch));
            }
        }
        self.timeline.generated(connected, changed);
        self.tell(&findings);
        *self.told.lock() = findings;
        self.changed();
    }

    /// The metrics of a snapshot.
    fn describe(&self, epoch: &Epoch) {
        let (metrics, snapshot) = (&self.metrics, &epoch.snapshot);
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        metrics
            .snapshot
            .set(i64::try_from(epoch.number).unwrap_or(i64::MAX));
        set(&metrics.rejected_objects, snapshot.rejected.len());
        set(&metrics.services, snapshot.services().len());
        set(&metrics.virtual_services, snapshot.virtual_services().len());
    }

    /// Ends a stream whose proxy may not have its table any longer. It keeps what it has until it may connect again.
    fn dismiss(&self, id: StreamId, denied: &Denied) {
        let mut streams = self.streams.lock();
        if let Some(connected) = streams.remove(&id) {
            tracing::warn!(node = connected.node, reason = %denied, "no longer serves a proxy");
            self.forget_rejects(&connected);
        }
        self.count(&streams);
        self.changed();
    }

    /// Ends all streams, and takes none any more: proxies go to another Pilot or wait.
    pub fn close(&self) {
        let mut tables = self.tables.write();
        *tables = None;
        let mut streams = self.streams.lock();
        streams.clear();
        self.count(&streams);
    }

    /// Logs what is not in the log yet.
    fn tell(&self, findings: &BTreeSet<String>) {
        let mut told = self.told.lock();
        for finding in findings.difference(&told) {
            tracing::warn!("{finding}");
        }
        told.extend(findings.iter().cloned());
    }

    /// Takes a stream in; the receiver follows the table that its proxy should have. `None` before the first snapshot.
    pub fn connect(
        &self,
        id: StreamId,
        proxy: Proxy,
        node: &str,
        peer: Option<Peer>,
    ) -> Option<watch::Receiver<Arc<Table>>> {
        // The read lock is held until the stream is in the map, so that no snapshot comes between.
        let tables = self.tables.read();
        let of_snapshot = &tables.as_ref()?.1;
        let scope = of_snapshot.scope(&proxy, None);
        let wanted = of_snapshot.of_scope(&scope, &proxy, None);
        self.tell(&wanted.findings().map(Finding::to_string).collect());
        let (sender, receiver) = watch::channel(wanted.table.clone());
        let status = Status::default();
        let connected = Connected {
            proxy: Arc::new(proxy),
            scope,
            node: node.to_owned(),
            peer,
            wanted,
            sender,
            status,
            synced: None,
            pending: None,
        };
        let mut streams = self.streams.lock();
        streams.insert(id, connected);
        self.count(&streams);
        self.changed();
        Some(receiver)
    }

    /// Takes what happened on a stream into account.
    pub fn observe(&self, id: StreamId, event: &Event) {
        if matches!(
            event,
            Event::Closed | Event::Synced { .. } | Event::Rejected { .. }
        ) {
            self.changed();
        }
        let mut streams = self.streams.lock();
        if let Event::Closed = event {
            if let Some(connected) = streams.remove(&id) {
                self.forget_rejects(&connected);
            }
            self.count(&streams);
        } else if let Some(connected) = streams.get_mut(&id) {
            self.measure(connected, event);
            connected.observe(event, &self.metrics);
        }
    }

    /// What each proxy has accepted, and how many agents follow their workload: the contents of `/debug/syncz`.
    #[must_use]
    pub fn syncz(&self) -> Value {
        let epoch = self.tables.read().as_ref().map(|(epoch, _)| epoch.number);
        let streams = self.streams.lock();
        let proxies = streams.values().filter(|each| each.is_proxy());
        let proxies: Vec<Value> = proxies.map(Connected::json).collect();
        json!({ "snapshot": epoch, "agents": streams.len() - proxies.len(), "proxies": proxies })
    }

    /// Names and versions of what a proxy should have, with the objects behind each resource. `asked` is a node id or
    /// `NAME.NAMESPACE`.
    #[must_use]
    pub fn resources(&self, asked: &str) -> Option<Value> {
        let streams = self.streams.lock();
        let connected = streams.values().find(|connected| connected.is_meant(asked))?;
        let wanted = &connected.wanted;
        let resource = |type_url: &TypeUrl, resource: &xds::Resource| {
            let objects: Vec<String> = wanted
                .origins(type_url, &resource.name)
                .iter()
                .map(ObjectKey::to_string)
                .collect();
            json!({
                "name": &*resource.name,
                "version": format!("{:016x}", resource.version),
                "bytes": resource.bytes.len(),
                "objects": objects,
            })
        };
        let of_type = |(type_url, table): (&TypeUrl, &Arc<TypeTable>)| {
            let resources: Vec<Value> = table.iter().map(|each| resource(type_url, each)).collect();
            (short(type_url).to_owned(), Value::from(resources))
        };
        Some(wanted.table.types().map(of_type).collect())
    }

    fn count(&self, streams: &BTreeMap<StreamId, Connected>) {
        let proxies = streams.values().filter(|each| each.is_proxy()).count();
        self.metrics
            .connected
            .set(i64::try_from(proxies).unwrap_or(i64::MAX));
    }

    fn measure(&self, connected: &Connected, event: &Event) {
        let label = |type_url: &TypeUrl| TypeLabel {
            r#type: short(type_url).to_owned(),
        };
        match event {
            Event::Sent {
                type_url,
                resources,
                bytes,
                ..
            } => {
                let (label, metrics) = (label(type_url), &self.metrics);
                metrics.pushes.get_or_create(&label).inc();
                metrics.config_size.get_or_create(&label).observe(*bytes as f64);
                if let Some(epoch) = &connected.pending {
                    let took = epoch.seen.elapsed().as_secs_f64();
                    metrics.push_time.get_or_create(&label).observe(took);
                }
                self.timeline.sent(*resources, *bytes);
            }
            Event::Nacked {
                type_url,
                message,
                suspects,
                ..
            } => {
                self.metrics.nacks.get_or_create(&label(type_url)).inc();
                self.timeline.rejected();
                tracing::warn!(node = connected.node, r#type = short(type_url), %message, ?suspects, "NACK");
            }
            Event::Synced { table } => {
                if let Some(epoch) = connected
                    .pending
                    .as_ref()
                    .filter(|_| table.version() == connected.wanted.table.version())
                {
                    self.timeline.synced(epoch.number);
                    self.metrics
                        .convergence
                        .observe(epoch.seen.elapsed().as_secs_f64());
                }
            }
            _ => {}
        }
    }

    fn forget_rejects(&self, connected: &Connected) {
        for label in connected.reject_labels() {
            self.metrics.rejects.get_or_create(&label).dec();
        }
        self.metrics
            .rejecting(&connected.rejecting(), |gauge| gauge.dec());
    }
}

impl Connected {
    /// Whether it is Envoy's stream.
    fn is_proxy(&self) -> bool {
        is_envoys(&self.proxy)
    }

    /// Whether it is the one that was asked for by its node's id or its short name. An agent's stream has the node's name too,
    /// but no configuration to show.
    fn is_meant(&self, asked: &str) -> bool {
        self.is_proxy() && is_meant(&self.node, asked)
    }

    /// Who it is, and what it should have so far.
    fn now(&self) -> (Arc<Proxy>, Option<Peer>, Arc<Scope>, ProxyTable) {
        (
            self.proxy.clone(),
            self.peer.clone(),
            self.scope.clone(),
            self.wanted.clone(),
        )
    }

    /// Gives it its new table; says whether that is another one.
    fn advance(&mut self, scope: Arc<Scope>, wanted: ProxyTable, epoch: &Arc<Epoch>) -> bool {
        let changed = wanted.table.version() != self.wanted.table.version();
        self.scope = scope;
        self.wanted = wanted;
        if changed {
            self.pending = Some(epoch.clone());
            self.sender.send_replace(self.wanted.table.clone());
        }
        changed
    }

    fn observe(&mut self, event: &Event, metrics: &PilotMetrics) {
        if let Event::Synced { table } = event {
            self.synced = Some(table.clone());
            if table.version() == self.wanted.table.version() {
                self.pending = None;
            }
        }
        let (before, types) = (self.reject_labels(), self.rejecting());
        let wanted = &self.wanted;
        let news = self
            .status
            .observe(event, &|type_url, name| wanted.origins(type_url, name));
        let Some(rejected) = news else { return };
        for each in rejected {
            let objects: Vec<String> = each.objects.iter().map(ObjectKey::to_string).collect();
            tracing::warn!(
                node = self.node,
                resource = &*each.name,
                message = &*each.message,
                ?objects,
                "rejected"
            );
        }
        let gauge = |label: RejectLabel| metrics.rejects.get_or_create_owned(&label);
        for label in before {
            gauge(label).dec();
        }
        for label in self.reject_labels() {
            gauge(label).inc();
        }
        metrics.rejecting(&types, |gauge| gauge.dec());
        metrics.rejecting(&self.rejecting(), |gauge| gauge.inc());
    }

    /// The types of which it rejects something.
    fn rejecting(&self) -> BTreeSet<TypeUrl> {
        let rejected = self.status.rejected();
        rejected.map(|(type_url, _)| type_url.clone()).collect()
    }

    fn reject_labels(&self) -> Vec<RejectLabel> {
        let labels = |(type_url, rejected)| {
            let rejected: &crate::status::Rejected = rejected;
            rejected
                .objects
                .iter()
                .map(move |object| RejectLabel::new(short(type_url), object))
        };
        self.status.rejected().flat_map(labels).collect()
    }

    fn seen(&self) -> Seen {
        let rejected = self.status.rejected().flat_map(|(_, rejected)| {
            let words = &rejected.message;
            rejected
                .objects
                .iter()
                .map(move |object| (object.clone(), words.clone()))
        });
        Seen {
            wanted: self.wanted.clone(),
            synced: self.synced.clone(),
            rejects: rejected.collect(),
        }
    }

    fn json(&self) -> Value {
        let findings: Vec<String> = self.wanted.findings().map(Finding::to_string).collect();
        json!({
            "proxy": self.node,
            "identity": self.peer.as_ref().map(|peer| peer.spiffe_id.to_string()),
            "version": self.proxy.metadata.get(VERSION),
            "synced": self.pending.is_none(),
            "types": self.status.json(),
            "findings": findings,
        })
    }
}

/// What of Mixer's configuration cannot be used.
fn generator_findings(tables: &Tables) -> BTreeSet<String> {
    let findings = tables.generator().findings();
    findings.iter().map(Finding::to_string).collect()
}

/// Whether a stream is Envoy's. An agent that asks for its workload's address has none to name, and one that asks for DNS names
/// says so.
fn is_envoys(proxy: &Proxy) -> bool {
    !proxy.ip.is_unspecified() && !proxy.metadata.contains_key(STREAM)
}

/// Whether a node (`TYPE~ADDRESS~NAME.NAMESPACE~DOMAIN`) is the one that was asked for, by its id or its short name.
fn is_meant(node: &str, asked: &str) -> bool {
    node == asked || node.split('~').nth(2) == Some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_asked_for_by_its_id_or_its_short_name() {
        let envoy = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
        for (node, asked, expected) in [
            (envoy, envoy, true),
            (envoy, "catalog-v1.shop", true),
            (envoy, "catalog-v1", false),
            (envoy, "127.1.0.21", false),
            (envoy, "", false),
            ("odd", "", false),
        ] {
            assert_eq!(is_meant(node, asked), expected, "{node} {asked}");
        }
    }

    #[test]
    fn agents_streams_are_no_proxies() {
        use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
        let dns = Value {
            kind: Some(Kind::StringValue("dns".to_owned())),
        };
        let marked = Struct {
            fields: [(STREAM.to_owned(), dns)].into(),
        };
        let envoy = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
        let unknown = "sidecar~0.0.0.0~catalog-v1.shop~shop.svc.cluster.local";
        let is = |node, metadata| is_envoys(&Proxy::parse(node, metadata).unwrap());
        assert!(is(envoy, None));
        assert!(!is(envoy, Some(&marked)), "an agent's stream for DNS");
        assert!(!is(unknown, None), "an agent that asks for its address");
    }
}
