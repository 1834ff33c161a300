//! Terms: what a check has looked at, and what a change of an object concerns. Where the two meet, the check runs again.
//!
//! It also says by which terms objects can be found; the lists themselves are the store's.

use std::hash::{DefaultHasher, Hash, Hasher};

use config::networking::ServerTlsSettings;
use config::{Kind, Object, Spec};

use crate::hosts::fqdn;

/// Something that a check may look at.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) enum Term<'a> {
    /// All objects of a kind.
    Kind(Kind),
    /// Which objects of a kind there are, whatever they hold.
    Names(Kind),
    /// The objects of a kind in a namespace.
    Namespace(Kind, &'a str),
    /// One object: kind, namespace and name.
    Object(Kind, &'a str, &'a str),
    /// The time.
    Clock,
    /// Facts about the cluster.
    Facts,
    /// Pods and WorkloadEntries with a label.
    Label(&'a str, &'a str),
    /// Services with that label in their selector, and none before it: each is found by one.
    Selector(&'a str, &'a str),
    /// Services and ServiceEntries with that host, made full.
    Host(&'a str),
    /// ServiceEntries with a wildcard among their hosts.
    WildcardHost,
    /// ServiceEntries with that host, as it is written.
    EntryHost(&'a str),
    /// DestinationRules for that host, made full.
    RuleHost(&'a str),
    /// VirtualServices that route to a subset of a host, and are for that host, as it is written.
    SubsetRoute(&'a str),
    /// Gateways with that host, as it is written, on that port.
    Served(u32, &'a str),
    /// Gateways that present the certificate of that Secret.
    Credential(&'a str),
    /// Gateways that present the certificate in that file.
    CertificateFile(&'a str),
}

/// A term's hash. Two terms may have the same by chance: then a check runs once too often, and who looks objects up by a term
/// looks at each whether it is one that he meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TermId(u64);

impl Term<'_> {
    pub(crate) fn id(&self) -> TermId {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        TermId(hasher.finish())
    }
}

/// The terms that every object of the kind concerns when it changes, found or not by them.
pub(crate) fn places(object: &Object) -> [TermId; 3] {
    let (kind, meta) = (object.kind, &object.meta);
    [
        Term::Kind(kind).id(),
        Term::Namespace(kind, &meta.namespace).id(),
        Term::Object(kind, &meta.namespace, &meta.name).id(),
    ]
}

/// The term by which Gateways that present the same certificate are found; `None` where none is presented.
pub(crate) fn certificate(tls: &ServerTlsSettings) -> Option<Term<'_>> {
    match (tls.credential_name.as_str(), tls.server_certificate.as_str()) {
        ("", "") => None,
        ("", file) => Some(Term::CertificateFile(file)),
        (name, _) => Some(Term::Credential(name)),
    }
}

/// The terms by which an object is found; some may repeat.
pub(crate) fn terms(object: &Object) -> Vec<TermId> {
    let mut terms = Vec::new();
    let mut add = |term: Term<'_>| terms.push(term.id());
    let (meta, namespace) = (&object.meta, object.meta.namespace.as_str());
    let full = |host: &str| fqdn(host, namespace);
    match &object.spec {
        Spec::Pod(_) => meta.labels.iter().for_each(|(k, v)| add(Term::Label(k, v))),
        Spec::WorkloadEntry(entry) => {
            let labels = meta.labels.iter().chain(&entry.labels);
            labels.for_each(|(k, v)| add(Term::Label(k, v)));
        }
        Spec::Service(service) => {
            add(Term::Host(&full(&meta.name)));
            if let Some((key, value)) = service.spec.selector.first_key_value() {
                add(Term::Selector(key, value));
            }
        }
        Spec::ServiceEntry(entry) => {
            for host in &entry.hosts {
                add(Term::Host(&full(host)));
                add(Term::EntryHost(host));
                if host.starts_with('*') {
                    add(Term::WildcardHost);
                }
            }
        }
        Spec::DestinationRule(rule) => add(Term::RuleHost(&full(&rule.host))),
        Spec::VirtualService(service) => {
            let routes = service.http.iter().flat_map(|route| &route.route);
            let to = routes.filter_map(|route| route.destination.as_ref());
            to.filter(|to| !to.subset.is_empty() && service.hosts.contains(&to.host))
                .for_each(|to| add(Term::SubsetRoute(&to.host)));
        }
        Spec::Gateway(gateway) => {
            for server in &gateway.servers {
                let port = server.port.as_ref().map_or(0, |port| port.number);
                server.hosts.iter().for_each(|host| add(Term::Served(port, host)));
                if let Some(term) = server.tls.as_ref().and_then(certificate) {
                    add(term);
                }
            }
        }
        _ => {}
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expected: &[Term<'_>]) {
        let mut parsed = config::parse("x.yaml", yaml.as_bytes(), "default");
        let object = parsed.objects.remove(0);
        let mut found = terms(&object);
        found.sort();
        found.dedup();
        let mut expected: Vec<TermId> = expected.iter().map(Term::id).collect();
        expected.sort();
        assert_eq!(found, expected, "{yaml}");
    }

    #[test]
    fn by_what_objects_are_found() {
        check(
            "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {b: '2', a: '1'}, ports: [{port: 80}]}}",
            &[Term::Host("web.shop.svc.cluster.local"), Term::Selector("a", "1")],
        );
        check(
            "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x, namespace: shop}, spec: {hosts: ['*.x.example'], ports: [{number: 80, name: http}]}}",
            &[
                Term::Host("*.x.example"),
                Term::EntryHost("*.x.example"),
                Term::WildcardHost,
            ],
        );
        check(
            "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: x, namespace: shop, labels: {a: '1'}}, spec: {address: 10.0.0.1, labels: {a: '1', b: '2'}}}",
            &[Term::Label("a", "1"), Term::Label("b", "2")],
        );
        check(
            "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: x, namespace: shop}, spec: {hosts: [web], http: [{route: [{destination: {host: web, subset: v1}, weight: 50}, {destination: {host: other, subset: v1}, weight: 50}]}]}}",
            &[Term::SubsetRoute("web")],
        );
    }

    #[test]
    fn terms_of_different_sorts_differ() {
        assert_ne!(Term::Host("x").id(), Term::EntryHost("x").id());
        assert_ne!(Term::Label("a", "bc").id(), Term::Label("ab", "c").id());
    }
}
