//! Rules across fields in CEL, which the CustomResourceDefinitions carry to Kubernetes' API server. `validate` holds the
//! same rules and more; none here may refuse what `validate` accepts.

use serde_json::{Value, json};

/// A rule and what is said when it does not hold.
pub(crate) type Rule = (&'static str, &'static str);

/// The value of `x-kubernetes-validations`.
pub(crate) fn rules(rules: &[Rule]) -> Value {
    rules
        .iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect()
}

/// Of policies: how they are attached.
pub(crate) const ATTACHED_ONCE: Rule = (
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) && self.targetRefs.size() > 0 ? 1 : 0) <= 1",
    "selector, targetRef and targetRefs exclude one another; keep one of them",
);

/// Of TrafficExtension, which has no `targetRef`.
pub(crate) const SELECTED_OR_TARGETED: Rule = (
    "!has(self.selector) || !has(self.targetRefs) || self.targetRefs.size() == 0",
    "selector and targetRefs exclude one another; keep one of them",
);

/// Of EnvoyFilter.
pub(crate) const WORKLOADS_OR_TARGETS: Rule = (
    "!has(self.workloadSelector) || !has(self.targetRefs) || self.targetRefs.size() == 0",
    "workloadSelector and targetRefs exclude one another; keep one of them",
);

/// Of a map of labels that selects.
pub(crate) const PLAIN_KEYS: Rule = (
    "self.all(key, key.size() > 0 && !key.contains('*'))",
    "a label's key must not be empty and has no wildcard",
);

/// Of a label's value that selects.
pub(crate) const PLAIN_VALUE: Rule = (
    "!self.contains('*')",
    "labels are compared whole, * is no wildcard here",
);

/// Of a reference to a policy's target.
pub(crate) const OWN_NAMESPACE: Rule = (
    "self == ''",
    "objects of other namespaces cannot be named here; remove the field",
);

/// Of a map by port numbers.
pub(crate) const PORT_KEYS: Rule = (
    "self.all(port, 0 < int(port) && int(port) <= 65535)",
    "a port is a number from 1 to 65535",
);

/// Of PeerAuthentication.
pub(crate) const PORTS_OF_WORKLOADS: Rule = (
    "!has(self.portLevelMtls) || (has(self.selector) && has(self.selector.matchLabels) && self.selector.matchLabels.size() > 0)",
    "portLevelMtls: ports belong to workloads; choose them by labels in selector",
);

/// Of a JWT rule.
pub(crate) const KEYS_ONCE: Rule = (
    "!has(self.jwks) || self.jwks == '' || (!has(self.jwksUri) && !has(self.jwks_uri))",
    "jwks and jwksUri exclude one another; keep one of them",
);

/// Of a URL that keys are fetched from.
pub(crate) const BY_HTTP: Rule = (
    "self.startsWith('http://') || self.startsWith('https://')",
    "must begin with http:// or https://",
);

/// Of an AuthorizationPolicy's source.
pub(crate) const ACCOUNTS_ALONE: Rule = (
    "!((has(self.serviceAccounts) && self.serviceAccounts.size() > 0) || (has(self.notServiceAccounts) && self.notServiceAccounts.size() > 0)) || \
     !((has(self.principals) && self.principals.size() > 0) || (has(self.notPrincipals) && self.notPrincipals.size() > 0) || \
     (has(self.namespaces) && self.namespaces.size() > 0) || (has(self.notNamespaces) && self.notNamespaces.size() > 0))",
    "serviceAccounts exclude principals and namespaces, which say the same; keep one of them",
);

/// Of AuthorizationPolicy.
pub(crate) const PROVIDER_DECIDES: Rule = (
    "has(self.provider) == (has(self.action) && self.action == 'CUSTOM')",
    "provider and action CUSTOM belong together; give both or none",
);

/// Of AuthorizationPolicy.
pub(crate) const RULES_TO_APPLY: Rule = (
    "!has(self.action) || !(self.action in ['DENY', 'CUSTOM']) || (has(self.rules) && self.rules.size() > 0)",
    "without rules the action never applies; add an empty rule {} to match every request",
);

/// Of ServiceEntry's hosts.
pub(crate) const NAMED_HOSTS: Rule = (
    "self.all(host, host != '*')",
    "* is too wide for a service; name the hosts, or use *. with a domain",
);

/// Of ServiceEntry's ports.
pub(crate) const DIFFERENT_NUMBERS: Rule = (
    "self.all(one, self.exists_one(other, one.number == other.number))",
    "each port has a number of its own",
);

/// Of ServiceEntry.
pub(crate) const SERVICE: &[Rule] = &[
    (
        "!has(self.workloadSelector) || !has(self.endpoints) || self.endpoints.size() == 0",
        "workloadSelector and endpoints exclude one another; keep one of them",
    ),
    (
        "!has(self.endpoints) || self.endpoints.size() == 0 || (has(self.resolution) && self.resolution != 'NONE')",
        "resolution NONE goes where the client wants; remove the endpoints or use STATIC or DNS",
    ),
    (
        "!has(self.resolution) || self.resolution != 'DNS_ROUND_ROBIN' || !has(self.endpoints) || self.endpoints.size() <= 1",
        "resolution DNS_ROUND_ROBIN takes one endpoint at most",
    ),
    (
        "!has(self.resolution) || self.resolution in ['NONE', 'STATIC'] || !has(self.addresses) || !self.addresses.exists(address, address.contains('/'))",
        "the resolution takes single addresses; ranges need NONE or STATIC",
    ),
];

/// Of a WorkloadEntry, but not of a WorkloadGroup's template.
pub(crate) const REACHED: Rule = (
    "(has(self.address) && self.address != '') || (has(self.network) && self.network != '')",
    "address: this field is required; only with network may it be left out",
);

/// Of a list of endpoints.
pub(crate) const ALL_REACHED: Rule = (
    "self.all(endpoint, (has(endpoint.address) && endpoint.address != '') || (has(endpoint.network) && endpoint.network != ''))",
    "address: this field is required; only with network may it be left out",
);

/// Of an address that may be a Unix socket.
pub(crate) const SOCKET: Rule = (
    "!self.startsWith('unix://') || ((self.startsWith('unix:///') || self.startsWith('unix://@')) && (self.startsWith('unix://@') || !self.endsWith('/')))",
    "must be the absolute path of a Unix socket, or @NAME for an abstract one, after unix://",
);

/// Of ports by name.
pub(crate) const PORT_NAMES: Rule = (
    "self.all(name, name.size() <= 63 && name.matches('^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$'))",
    "a port's name has up to 63 letters, digits and hyphens, no hyphen at an end",
);

/// Of a workload.
pub(crate) const SOCKET_WITHOUT_PORTS: Rule = (
    "!has(self.address) || !self.address.startsWith('unix://') || !has(self.ports) || self.ports.size() == 0",
    "a Unix socket has no ports; remove them",
);

/// Of an EnvoyFilter's match.
pub(crate) const WAYPOINT: Rule = (
    "has(self.waypoint) == (has(self.context) && self.context == 'WAYPOINT')",
    "waypoint and context WAYPOINT belong together; give both or none",
);

/// Of a DestinationRule's policy.
pub(crate) const TUNNEL_OR_PROXY_PROTOCOL: Rule = (
    "!has(self.tunnel) || !has(self.proxyProtocol)",
    "tunnel and proxyProtocol exclude one another; keep one of them",
);

/// Of a server's TLS settings.
pub(crate) const ONE_CERTIFICATE: Rule = (
    "(has(self.credentialName) && self.credentialName != '' ? 1 : 0) + (has(self.credentialNames) ? 1 : 0) + (has(self.tlsCertificates) ? 1 : 0) <= 1",
    "credentialName, credentialNames and tlsCertificates exclude one another; keep one of them",
);

/// Of a change of a metric's tag.
pub(crate) const TAG_VALUE: Rule = (
    "(has(self.operation) && self.operation == 'REMOVE') != (has(self.value) && self.value != '')",
    "operation UPSERT needs the tag's new value, REMOVE takes none",
);

/// Of a Wasm module's place.
pub(crate) const MODULE: Rule = (
    "!self.contains('://') || ['http://', 'https://', 'oci://', 'file://'].exists(scheme, self.startsWith(scheme))",
    "must have one of the schemes file, http, https and oci",
);

/// Of a variable of a Wasm machine.
pub(crate) const INLINE_VALUE: Rule = (
    "!has(self.valueFrom) || self.valueFrom != 'HOST' || !has(self.value) || self.value == ''",
    "valueFrom HOST takes the value from the proxy's environment; remove one of them",
);

/// Of TrafficExtension.
pub(crate) const WASM_OR_LUA: Rule = ("has(self.wasm) || has(self.lua)", "wasm or lua is needed");

/// Of VirtualService.
pub(crate) const SOME_ROUTE: Rule = (
    "(has(self.http) && self.http.size() > 0) || (has(self.tls) && self.tls.size() > 0) || (has(self.tcp) && self.tcp.size() > 0)",
    "no route is given; http, tls or tcp is needed",
);

/// Of an HTTP route: what it does, once. These are several rules, since what one may cost is bounded.
pub(crate) const ACTIONS: &[Rule] = &[
    (
        "!has(self.redirect) || !has(self.directResponse)",
        "redirect and directResponse exclude one another; keep one of them",
    ),
    (
        "!has(self.redirect) || !has(self.route) || self.route.size() == 0",
        "redirect and route exclude one another; keep one of them",
    ),
    (
        "!has(self.directResponse) || !has(self.route) || self.route.size() == 0",
        "directResponse and route exclude one another; keep one of them",
    ),
    (
        "has(self.route) || has(self.redirect) || has(self.directResponse) || has(self.delegate)",
        "nothing is done with the request; route, redirect, directResponse or delegate is needed",
    ),
    (
        "!has(self.delegate) || !(has(self.redirect) || has(self.directResponse))",
        "delegate excludes redirect and directResponse; keep one of them",
    ),
    (
        "!has(self.mirror) || !has(self.mirrors) || self.mirrors.size() == 0",
        "mirror and mirrors exclude one another; keep one of them",
    ),
];

/// Of a redirect.
pub(crate) const REDIRECT_URI_ONCE: Rule = (
    "!has(self.uri) || self.uri == '' || !has(self.prefixRewrite) || self.prefixRewrite == ''",
    "uri and prefixRewrite exclude one another; keep one of them",
);

/// Of a rewrite.
pub(crate) const REWRITE_URI_ONCE: Rule = (
    "!has(self.uri) || self.uri == '' || !has(self.uriRegexRewrite)",
    "uri and uriRegexRewrite exclude one another; keep one of them",
);

/// Of a probe.
pub(crate) const SOME_METHOD: Rule = (
    "has(self.httpGet) || has(self.tcpSocket) || has(self.exec) || has(self.grpc)",
    "no method is given; httpGet, tcpSocket, exec or grpc is needed",
);

/// Of a probe by HTTP.
pub(crate) const HTTP_SCHEME: Rule = ("self in ['', 'HTTP', 'HTTPS']", "must be HTTP or HTTPS");
