//! Random histories of table changes, ACKs, NACKs, reconnects and lost messages, against a model of Envoy.
//!
//! What must hold in each: never two un-ACKed responses of a type; nothing sent before the clusters that it refers to are
//! answered, or the gate's time is over; no cluster removed while in use or within the drain time; what is unchanged or was
//! rejected is not sent again; no cluster waits for its endpoints; and in the end the client has what the table has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod envoy;
mod world;

use envoy::{Envoy, Request};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use world::{Change, World, facts};
use xds::stream::{Response, Settings, Stream, Variant, nonce_text};
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};
use xds::{Event, Table, TypeUrl};

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    /// The transport takes a response.
    Pull,
    /// The client gets a response.
    ToClient,
    /// The server gets a request.
    ToServer,
    /// Time passes, in tenths of a second.
    Wait(u16),
    /// The connection breaks; what is under way is lost.
    Reconnect,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => world::change().prop_map(Step::Change),
        6 => Just(Step::Pull),
        6 => Just(Step::ToClient),
        6 => Just(Step::ToServer),
        2 => (1..200u16).prop_map(Step::Wait),
        1 => Just(Step::Reconnect),
    ];
    proptest::collection::vec(step, 1..150)
}

struct History {
    settings: Settings,
    variant: Variant,
    now: Duration,
    world: World,
    table: Arc<Table>,
    server: Stream,
    envoy: Envoy,
    to_client: VecDeque<Response>,
    to_server: VecDeque<Request>,
    unacked: BTreeMap<TypeUrl, u64>,
    /// Clusters that the client has once all that was sent has arrived.
    sent_clusters: BTreeSet<String>,
    /// Clusters that are new to the client and not answered, and when they were sent.
    unanswered: Option<(u64, Duration, BTreeSet<String>)>,
    /// Rejected and not changed since.
    rejected: BTreeSet<(TypeUrl, String, u64)>,
    /// Routes were rejected without a word of which, so that the client may have any of them.
    uncertain: bool,
    /// A stall may be the client's own fault.
    excused: bool,
}

impl History {
    /// `response_bytes`: small, and long states come in parts; large, and streams are sent whole runs.
    fn new(variant: Variant, response_bytes: usize) -> Self {
        let settings = Settings {
            response_bytes,
            ..Settings::default()
        };
        let table = Arc::new(Table::default());
        let mut history = Self {
            settings,
            variant,
            now: Duration::ZERO,
            world: World::default(),
            server: Stream::new(variant, settings, table.clone()),
            table,
            envoy: Envoy::new(variant),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            unacked: BTreeMap::new(),
            sent_clusters: BTreeSet::new(),
            unanswered: None,
            rejected: BTreeSet::new(),
            uncertain: false,
            excused: false,
        };
        history.envoy.connect();
        history.collect();
        history
    }

    fn run(&mut self, steps: Vec<Step>) -> Result<(), String> {
        for step in steps {
            match step {
                Step::Change(change) => self.change(change),
                Step::Pull => _ = self.pull()?,
                Step::ToClient => _ = self.client_takes()?,
                Step::ToServer => _ = self.server_takes()?,
                Step::Wait(tenths) => self.wait(Duration::from_millis(u64::from(tenths) * 100)),
                Step::Reconnect => self.reconnect(),
            }
            self.note_events();
        }
        // Until now the network may have been slow; from here on only the server can be.
        self.envoy.stalls = 0;
        self.settle()?;
        self.compare()
    }

    fn change(&mut self, change: Change) {
        self.world.apply(change);
        self.table = Arc::new(self.world.table(Some(&self.table)));
        self.server.on_table(self.table.clone());
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.envoy.tick(self.now);
        self.collect();
    }

    fn reconnect(&mut self) {
        self.excused |= self.envoy.is_warming();
        self.to_client.clear();
        self.to_server.clear();
        self.unacked.clear();
        self.rejected.clear();
        self.unanswered = None;
        self.sent_clusters = self.envoy.have(&CLUSTER).keys().cloned().collect();
        self.server = Stream::new(self.variant, self.settings, self.table.clone());
        self.envoy.connect();
        self.collect();
    }

    fn collect(&mut self) {
        self.to_server.extend(self.envoy.out.drain(..));
    }

    fn pull(&mut self) -> Result<bool, String> {
        let Some(response) = self.server.poll(self.now) else {
            return Ok(false);
        };
        self.check_sent(&response)?;
        self.to_client.push_back(response);
        Ok(true)
    }

    fn client_takes(&mut self) -> Result<bool, String> {
        let Some(response) = self.to_client.pop_front() else {
            return Ok(false);
        };
        self.excused |= response
            .resources
            .iter()
            .any(|each| response.type_url == ENDPOINTS && bad(each, &ENDPOINTS));
        self.envoy.take(&response, self.now, self.settings.drain)?;
        self.collect();
        Ok(true)
    }

    fn server_takes(&mut self) -> Result<bool, String> {
        let Some(request) = self.to_server.pop_front() else {
            return Ok(false);
        };
        let url = request.type_url();
        if self
            .unacked
            .get(&url)
            .is_some_and(|nonce| nonce_text(*nonce) == request.nonce())
        {
            self.unacked.remove(&url);
        }
        if let Some((nonce, ..)) = &self.unanswered
            && url == CLUSTER
            && nonce_text(*nonce) == request.nonce()
        {
            self.unanswered = None;
        }
        if let Request::Delta(request) = &request {
            for name in &request.resource_names_subscribe {
                self.rejected
                    .retain(|(of, rejected, _)| *of != url || rejected != name);
            }
        }
        let given = match request {
            Request::Sotw(request) => self.server.on_sotw(self.now, request),
            Request::Delta(request) => self.server.on_delta(self.now, request),
        };
        given.map_err(|refused| refused.to_string())?;
        Ok(true)
    }

    fn note_events(&mut self) {
        for event in self.server.events() {
            self.uncertain |=
                matches!(&event, Event::Nacked { type_url, certain: false, .. } if *type_url == ROUTE);
            if let Event::Rejected { type_url, resources } = event {
                self.rejected.retain(|(url, ..)| *url != type_url);
                for each in resources {
                    self.rejected
                        .insert((type_url.clone(), each.name.to_string(), each.version));
                }
            }
        }
    }

    fn check_sent(&mut self, response: &Response) -> Result<(), String> {
        let url = response.type_url.clone();
        if let Some(first) = self.unacked.insert(url.clone(), response.nonce) {
            return Err(format!(
                "{url}: {} sent while {first} is un-ACKed",
                response.nonce
            ));
        }
        if url == CLUSTER {
            let names = response.resources.iter().map(|each| each.name.to_string());
            let new = names.filter(|name| !self.sent_clusters.contains(name)).collect();
            self.unanswered = Some((response.nonce, self.now, new));
        }
        for each in response.resources.iter() {
            let name = each.name.to_string();
            let facts = facts(&each.bytes, url == CLUSTER);
            if let Some(missing) = facts.clusters.difference(&self.sent_clusters).next() {
                return Err(format!("{url}: {name} sent before its cluster {missing}"));
            }
            if let Some((_, at, new)) = &self.unanswered
                && self.now < *at + self.settings.gate
                && let Some(missing) = facts.clusters.intersection(new).next()
            {
                return Err(format!("{url}: {name} sent before {missing} was ACKed"));
            }
            // A whole state repeats what did not change, and endpoints follow their clusters.
            let sent_again = self.variant == Variant::Delta && (url == CLUSTER || url == LISTENER);
            if sent_again
                && self
                    .envoy
                    .have(&url)
                    .get(&name)
                    .is_some_and(|(has, _)| *has == each.version)
            {
                return Err(format!("{url}: {name} sent again unchanged"));
            }
            if url != ENDPOINTS && self.rejected.contains(&(url.clone(), name.clone(), each.version)) {
                return Err(format!("{url}: {name} sent again though it was rejected"));
            }
            if url == CLUSTER {
                self.sent_clusters.insert(name);
            }
        }
        for name in &response.removed {
            if url == CLUSTER {
                self.sent_clusters.remove(name.as_ref());
            }
        }
        Ok(())
    }

    /// Lets everything arrive and all time pass that anyone waits for.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..20_000 {
            let moved = self.pull()? | self.client_takes()? | self.server_takes()?;
            self.note_events();
            if moved {
                continue;
            }
            let due = [self.server.deadline(self.now), self.envoy.deadline()];
            match due.into_iter().flatten().min() {
                Some(due) => self.wait(due.saturating_sub(self.now)),
                None => return Ok(()),
            }
        }
        Err("never comes to rest".into())
    }

    fn compare(&self) -> Result<(), String> {
        let mut stuck = false;
        for url in [LISTENER, ROUTE, CLUSTER, ENDPOINTS] {
            for each in self.table.of_type(&url).iter() {
                let has = self.envoy.have(&url).get(each.name.as_ref());
                if bad(each, &url) {
                    let may_have = has.is_some() || (self.uncertain && self.envoy.wants(&url, &each.name));
                    stuck |= may_have && (url == LISTENER || url == ROUTE);
                } else if self.envoy.wants(&url, &each.name) && has.map(|(has, _)| *has) != Some(each.version)
                {
                    return Err(format!(
                        "{url}: the client has another {} than the table",
                        each.name
                    ));
                }
            }
            let extra = self
                .envoy
                .have(&url)
                .keys()
                .find(|name| self.table.get(&url, name).is_none());
            if let (Some(name), false) = (extra, stuck) {
                return Err(format!("{url}: the client still has {name}"));
            }
        }
        match self.envoy.stalls {
            0 => Ok(()),
            _ if self.excused => Ok(()),
            stalls => Err(format!("{stalls} clusters waited in vain for their endpoints")),
        }
    }
}

fn bad(resource: &xds::Resource, url: &TypeUrl) -> bool {
    facts(&resource.bytes, *url == CLUSTER).bad
}

/// The client applied the route and rejected the message for another one's sake; then it rejects the route's next version.
#[test]
fn a_route_of_a_rejected_message_keeps_its_cluster() {
    use world::Quality::{Bad, Good};
    let change = Step::Change;
    let steps = vec![
        change(Change::AddCluster(1)),
        change(Change::PointRoute(0, [1].into(), Good)),
        change(Change::PointRoute(3, [].into(), Bad)),
        Step::ToServer,
        Step::Pull,
        change(Change::AddCluster(2)),
        change(Change::PointRoute(0, [].into(), Bad)),
        change(Change::AddListener(1, 3)),
        change(Change::RemoveCluster(1)),
        change(Change::AddListener(0, 0)),
    ];
    assert_eq!(History::new(Variant::Sotw, 100).run(steps), Ok(()));
}

/// Histories of each variant: `ARGOSY_HISTORIES`, 256 unless given.
fn cases() -> u32 {
    let given = std::env::var("ARGOSY_HISTORIES").ok();
    given.map_or(256, |text| text.parse().expect("ARGOSY_HISTORIES"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delta_histories_end_well(steps in steps(), bytes in 100..1_000usize) {
        let mut history = History::new(Variant::Delta, bytes);
        prop_assert_eq!(history.run(steps), Ok(()));
    }

    #[test]
    fn state_of_the_world_histories_end_well(steps in steps(), bytes in 100..1_000usize) {
        // A new stream does not know what the client had, so what is gone goes at once: see `xds::stream`.
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Reconnect)).collect();
        let mut history = History::new(Variant::Sotw, bytes);
        prop_assert_eq!(history.run(steps), Ok(()));
    }
}
