//! The catalogue of messages: code, name, severity, words, way out, meaning. Codes, names and severities are Istio's
//! (pkg/config/analysis/msg), so that habits and suppressions carry over; the words are ours. Codes that begin with ARG are
//! checks that Istio does not have. `{}` is a gap.

use std::fmt::{self, Display};

use config::Severity;

macro_rules! codes {
    ($($variant:ident = $id:literal $severity:ident $text:literal, $help:literal, $meaning:literal;)*) => {
        /// A message of analysis. A variant's name is the message's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each variant is described by its words, see `template`")]
        pub enum Code { $($variant,)* }

        impl Code {
            /// All messages, by code.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code, such as `IST0101`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// The name, such as `ReferencedResourceNotFound`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// The words, with `{}` for each gap.
            pub const fn template(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it means, in a few sentences.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }

            /// The way out.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

codes! {
    InternalError = "IST0001" Error "internal error: {}", "report it, with the objects that are named",
        "Analysis itself has a fault. What else it said of these objects may be incomplete.";
    Deprecated = "IST0002" Warning "deprecated: {}", "move to what replaces it before it is removed",
        "A field or kind is still read, but something else has taken its place, and a later release will refuse it.";
    ReferencedResourceNotFound = "IST0101" Error "there is no {} {}", "create it, or correct the reference",
        "An object names another one (a gateway, a service, a subset, a Secret, a namespace, or pods by their labels) and there is none of that name. What depends on the reference does nothing, or answers requests with an error.";
    NamespaceNotInjected = "IST0102" Info "pods of this namespace get no sidecar",
        "label it istio-injection=enabled, or istio-injection=disabled if that is meant",
        "The namespace has no label that says whether its pods get a sidecar, and the mesh does not inject by default. Its pods are outside of the mesh, whether that is meant or forgotten.";
    PodMissingProxy = "IST0103" Warning "pod {} is in a namespace with injection but has no sidecar", "restart the workload, so that its pods are injected",
        "The namespace asks for sidecars, but this pod runs without one, most often because it is older than the namespace's label. It takes no part in the mesh: no mutual TLS, no policies, no telemetry.";
    SchemaValidationError = "IST0106" Error "{}", "correct the field",
        "The object breaks a rule of its kind. It is not used, and where an older version of it was good, that one stays in use.";
    MisplacedAnnotation = "IST0107" Warning "annotation {} has no effect here; it belongs on {}", "move or remove it",
        "The annotation exists, but not for objects of this kind, where it does nothing. Annotations for pods belong into a Deployment's template, not on the Deployment.";
    UnknownAnnotation = "IST0108" Warning "annotation {} is not known", "check its spelling, or remove it",
        "The annotation is in a domain of Istio's and no release knows it. It does nothing; most often it is misspelt.";
    ConflictingMeshGatewayVirtualServiceHosts = "IST0109" Error "VirtualServices {} all have routes for {} in sidecars; which one holds is not defined",
        "merge them into one, or narrow their exportTo",
        "Sidecars take their routes for a host from one VirtualService. Several that are visible in the same namespace define this host, so the routes of all but one are lost.";
    ConflictingSidecarWorkloadSelectors = "IST0110" Error "Sidecars {} of namespace {} all select pod {}; which one holds is not defined", "make their selectors disjoint",
        "A proxy takes its settings from one Sidecar. Several select this pod, and which of them it takes is not defined.";
    MultipleSidecarsWithoutWorkloadSelectors = "IST0111" Error "Sidecars {} are all meant for the whole namespace {}; only one holds", "keep one, or give the others a workloadSelector",
        "A Sidecar without a selector is for all workloads of its namespace that no other selects. Of several only one is used.";
    VirtualServiceDestinationPortSelectorRequired = "IST0112" Error "{} has several ports ({}) and the destination does not say which", "set destination.port.number",
        "The service has several ports and the route does not say which one requests go to. Requests for the route fail.";
    DeploymentAssociatedToMultipleServices = "IST0116" Warning "deployment {} is behind several Services that use port {} with different protocols: {}",
        "use one protocol per port, or other ports",
        "Pods of the deployment are behind several Services that give the same port number different protocols. A proxy has one listener for a port and cannot serve both.";
    PortNameIsNotUnderNamingConvention = "IST0118" Info "port {} ({}, target {}) does not say its protocol, which is then guessed from the first bytes",
        "name it PROTOCOL or PROTOCOL-SUFFIX, or set appProtocol",
        "The port's name does not begin with a protocol, and there is no appProtocol. Proxies then look at the first bytes of each connection, which fails for protocols in which the server speaks first.";
    NamespaceMultipleInjectionLabels = "IST0123" Warning "the namespace has several labels that ask for injection or ambient mode: {}", "keep one of them",
        "The namespace asks for injection in more than one way, or for sidecars and for ambient mode. Which of them holds depends on the installation.";
    InvalidAnnotation = "IST0125" Warning "annotation {} is not valid: {}", "correct its value",
        "The annotation's value is not of the form that it must have. The proxy is set up as if it were not there, or the pod is refused.";
    UnknownMeshNetworksServiceRegistry = "IST0126" Error "registry {} of network {} is not known", "name a cluster that has a remote secret, or Kubernetes",
        "MeshNetworks says that a network's endpoints come from this registry, but no cluster of that name belongs to the mesh. Endpoints are taken to be in no network, and requests to them may bypass the network's gateway.";
    NoMatchingWorkloadsFound = "IST0127" Warning "no workload of the mesh is selected by {}", "correct the selector, or remove the policy",
        "The policy is for workloads with certain labels, or of a namespace, and there is none in the mesh. It protects nothing: a wrong selector looks just the same.";
    NoServerCertificateVerificationDestinationLevel = "IST0128" Warning "TLS mode {} to {} has no caCertificates, so the server's certificate is not verified",
        "set caCertificates, or credentialName together with a workloadSelector",
        "Clients speak TLS to this host but have no roots to hold the server's certificate against. Anybody in between can pose as the server.";
    NoServerCertificateVerificationPortLevel = "IST0129" Warning "TLS mode {} to {} port {} has no caCertificates, so the server's certificate is not verified",
        "set caCertificates, or credentialName together with a workloadSelector",
        "Clients speak TLS to this port of the host but have no roots to hold the server's certificate against. Anybody in between can pose as the server.";
    VirtualServiceUnreachableRule = "IST0130" Warning "rule {} is {}", "remove it, or put it before the rule that takes its requests",
        "Rules are tried in order, and the ones before take every request that this one could match. It is dead.";
    VirtualServiceIneffectiveMatch = "IST0131" Info "match {} is {}", "remove it, or put it before the rule that takes its requests",
        "An earlier rule takes every request that this match could. The rule's other matches may still be used.";
    VirtualServiceHostNotFoundInGateway = "IST0132" Warning "no server of gateway {} serves any of the hosts {}", "add a host to the Gateway, or correct the VirtualService's hosts",
        "The VirtualService is bound to the gateway, but the gateway serves none of its hosts for this namespace, so its routes are not used there.";
    SchemaWarning = "IST0133" Warning "{}", "correct the field",
        "The object keeps the rules of its kind, but something in it is probably not meant so. It is used as it is.";
    ServiceEntryAddressesRequired = "IST0134" Warning "a TCP port without addresses takes all traffic to that port number", "set addresses, or let addresses be allocated",
        "TCP says nothing of a host name. Without an address of its own, the port of this ServiceEntry takes the traffic of every TCP service with the same port number.";
    DeprecatedAnnotation = "IST0135" Info "annotation {} is deprecated{}", "replace it before it is removed",
        "The annotation still works, but something else has taken its place.";
    AlphaAnnotation = "IST0136" Info "annotation {} is an alpha feature and may change or be incomplete", "do not rely on it in production",
        "The annotation belongs to a feature in its alpha phase. It is told of only when it is asked for (`--analyzer maturity.AlphaAnalyzer`, `--precheck`), since injection itself sets some of them.";
    DeploymentConflictingPorts = "IST0137" Warning "deployment {} is behind Services {} that use target port {} for different ports: {}", "use the same port in all of them",
        "Several Services lead to the same port of the deployment's pods under different numbers. A proxy tells inbound traffic by the pod's port, so only one Service's settings hold for it.";
    GatewayDuplicateCertificate = "IST0138" Warning "gateways {} present the same certificate; clients that reuse HTTP/2 connections may get 404", "use one Gateway, or a certificate each",
        "Gateways of the same proxies present the same certificate. A browser reuses an HTTP/2 connection for all hosts of a certificate, and the gateway that it came in by may not know the other's routes: it answers 404.";
    InvalidWebhook = "IST0139" Error "{}", "correct the webhook, so that each pod is injected once and by a Service that exists",
        "An injection webhook overlaps with another one, so that pods would be injected twice, or nothing serves it, so that pods cannot be made.";
    IngressRouteRulesNotAffected = "IST0140" Warning "subsets of VirtualService {} have no effect on requests that come in by {}", "route to the subset here too",
        "A VirtualService for sidecars chooses a subset for this host. A gateway does not go through it: it sends requests straight to the whole host, whatever the other VirtualService says.";
    InsufficientPermissions = "IST0141" Error "{} may not be created: {}", "ask for the right to create it",
        "Whoever asks has not the right to create what an installation consists of; it would stop half way. Told with `--precheck` only.";
    UnsupportedKubernetesVersion = "IST0142" Error "Kubernetes {} is older than {}, the oldest supported", "update the cluster",
        "The definitions of the mesh's kinds hold rules that older API servers do not evaluate. Told with `--precheck` only.";
    LocalhostListener = "IST0143" Error "port {} is that of a Service, but the process listens on localhost only", "listen on all addresses",
        "A process that listens on localhost only is not reached from other pods, since proxies pass requests on to the pod's own address.";
    InvalidApplicationUID = "IST0144" Warning "user id 1337 is the sidecar's; traffic of this container would pass the sidecar by", "run the application as another user",
        "Traffic of user 1337 is the sidecar's own and is not redirected to it, or it would go in circles. An application that runs as this user bypasses the mesh, policies included.";
    ConflictingGateways = "IST0145" Error "gateways {} serve the same hosts too (selector {}, port {}, hosts {})", "let one Gateway serve each host and port",
        "Several gateways claim the same host on the same port of the same proxies. Which of them serves it, with which certificate, is not defined.";
    ImageAutoWithoutInjectionWarning = "IST0146" Warning "{} {} leaves its proxy's image to injection, but no injection webhook selects it", "label it or its namespace for injection",
        "The image `auto` is a place that injection fills. No injection webhook selects pods of this deployment, so they will not start.";
    ImageAutoWithoutInjectionError = "IST0147" Error "{} {} still has the image \"auto\": it was not injected", "label it or its namespace for injection, and make it anew",
        "The image `auto` is a place that injection fills, and this pod was made without it. It cannot start.";
    NamespaceInjectionEnabledByDefault = "IST0148" Info "pods of this namespace get a sidecar, since the mesh injects by default", "label it istio-injection=disabled if they should not",
        "The namespace has no label that says whether its pods get a sidecar, and the mesh injects unless it is told otherwise.";
    JwtClaimBasedRoutingWithoutRequestAuthN = "IST0149" Error "routes by the claim {}, but no RequestAuthentication applies at gateway {}, pod {}",
        "apply a RequestAuthentication to the gateway",
        "The claims of a token are known only where a RequestAuthentication checks the token. There is none for the gateway's pods, so routes by claims never match.";
    ExternalNameServiceTypeInvalidPortName = "IST0150" Warning "port {} of an ExternalName Service is taken as plain TCP; traffic may not be forwarded", "name it by its protocol, such as https or tls",
        "A proxy passes traffic for an ExternalName Service on by its protocol's own means, such as the Host header or SNI. Plain TCP has none, so such a port may lead nowhere.";
    EnvoyFilterUsesRelativeOperation = "IST0151" Warning "a patch depends on other filters, but the EnvoyFilter has no priority, so it may come too early", "set priority, or use INSERT_FIRST or ADD",
        "The patch refers to what other filters have put there, and EnvoyFilters without a priority are applied in the order of their creation. After a restore from a backup the order is another one, and the patch may find nothing.";
    EnvoyFilterUsesReplaceOperationIncorrectly = "IST0152" Error "REPLACE is for HTTP_FILTER, NETWORK_FILTER and VIRTUAL_HOST only", "use MERGE, or another applyTo",
        "REPLACE is known for filters and virtual hosts only. The patch is ignored.";
    EnvoyFilterUsesAddOperationIncorrectly = "IST0153" Error "ADD has no effect on ROUTE_CONFIGURATION and HTTP_ROUTE", "use MERGE or an INSERT operation",
        "ADD is not known for route configurations and routes. The patch is ignored.";
    EnvoyFilterUsesRemoveOperationIncorrectly = "IST0154" Error "REMOVE has no effect on ROUTE_CONFIGURATION and HTTP_ROUTE", "use MERGE, or remove what contains it",
        "REMOVE is not known for route configurations and routes. The patch is ignored.";
    EnvoyFilterUsesRelativeOperationWithProxyVersion = "IST0155" Warning "a patch depends on a filter that another patch has for some proxy versions only, and there is no priority",
        "set priority, or use INSERT_FIRST or ADD",
        "The patch refers to a filter that another patch puts there for proxies of some version only. During an update, when proxies of both versions run, it finds nothing in the others.";
    UnsupportedGatewayAPIVersion = "IST0156" Error "Gateway API {} is older than {}, the oldest supported", "update its definitions",
        "The definition of a Gateway API kind does not serve the version in which objects are read. They are ignored. Told with `--precheck` only.";
    InvalidTelemetryProvider = "IST0157" Warning "Telemetry {} of namespace {} names no provider and the mesh has no default one, so it is ignored",
        "set providers, or defaultProviders.accessLogging in MeshConfig",
        "Access logging is asked for without a provider, and the mesh has no default one. The Telemetry is ignored.";
    PodsIstioProxyImageMismatchInNamespace = "IST0158" Warning "proxies of pods {} have another image than the injector would give them", "restart the workloads",
        "Pods of the namespace were injected by another release than the one that would inject them now. They keep their proxy until they are made anew.";
    ConflictingTelemetryWorkloadSelectors = "IST0159" Error "Telemetries {} of namespace {} all select pod {}; which one holds is not defined", "make their selectors disjoint",
        "A workload takes its telemetry settings from one Telemetry with a selector. Several select this pod, and which of them holds is not defined.";
    MultipleTelemetriesWithoutWorkloadSelectors = "IST0160" Error "Telemetries {} are all meant for the whole namespace {}; which one holds is not defined", "keep one, or give the others a selector",
        "A Telemetry without a selector is for its whole namespace. Of several, one holds, and which one is not defined.";
    InvalidGatewayCredential = "IST0161" Error "credential {} of gateway {} cannot be used: {}", "put a certificate that is valid now, and its key, into the Secret",
        "The Secret is there, but it lacks a certificate or a key, or its certificate cannot be read or is not valid at this time. The listener does not come up, or clients refuse it.";
    GatewayPortNotDefinedOnService = "IST0162" Warning "port {} is not a port of any Service in front of the pods {}", "add it to the Service, or correct the port",
        "The gateway opens a port that no Service in front of its proxies leads to. It is reached from within the pods only.";
    InvalidExternalControlPlaneConfig = "IST0163" Warning "webhook {} does not reach a control plane: address {} {}", "give a URL or a Service",
        "The webhook is to reach a control plane outside of the cluster, but has no address, or one that is not a URL. Pods are not injected, or objects not checked.";
    ExternalControlPlaneAddressIsNotAHostname = "IST0164" Info "webhook {} reaches the control plane by an IP address ({})", "use a host name in production",
        "The webhook reaches the control plane by an IP address, which the certificate and the load balancer seldom keep.";
    ReferencedInternalGateway = "IST0165" Warning "{} is a gateway that was generated for a Gateway API object", "use an HTTPRoute, or a Gateway of your own",
        "The control plane makes a gateway of its own for each Gateway of Gateway API. Its name is an inner matter and changes without notice.";
    IneffectiveSelector = "IST0166" Warning "selectors have no effect on Gateway API's gateway {}", "use targetRefs",
        "Gateways of Gateway API are not chosen by labels: a policy with a selector does nothing to them, though their pods have the labels.";
    IneffectivePolicy = "IST0167" Warning "this has no effect: {}", "remove it, or use a policy that ambient mode knows",
        "The object is for proxies of another kind than those that the selected workloads have. In ambient mode there is no sidecar that a Sidecar could set up.";
    UnknownUpgradeCompatibility = "IST0168" Warning "{} has changed in {}: {}", "check whether you rely on it before you update",
        "A setting has changed its meaning between releases, and whether this mesh relies on the old one cannot be told from outside.";
    UpdateIncompatibility = "IST0169" Warning "{} has changed in {}: {}", "adapt to it before you update",
        "Something that this cluster uses behaves differently from the release that it comes from. Told with `--precheck --from-version RELEASE` only.";
    MultiClusterInconsistentService = "IST0170" Warning "Service {} of namespace {} is not the same in clusters {}: {}", "make them the same",
        "In a mesh of several clusters, Services of the same name and namespace are one service. They differ in what clients see of them, so the outcome depends on the cluster that is asked. Told with `--remote-contexts` only.";
    NegativeConditionStatus = "IST0171" Warning "condition {} is negative ({}): {}", "see the controller that wrote it",
        "A controller has written into the object's status that it could not do what the object asks for.";
    FutureUnsupportedGatewayAPIVersion = "IST0172" Warning "Gateway API {} will not be supported soon; {} will be the oldest", "update its definitions",
        "The definition of a Gateway API kind serves no version but those that are going to be dropped. Told with `--precheck` only.";
    DestinationRuleSubsetNotSelectPods = "IST0173" Error "subset {} selects no pod; requests to it get 503", "correct its labels, or those of the pods",
        "No pod, WorkloadEntry or endpoint has the subset's labels. Requests that are routed to it get a 503.";
    UnknownDestinationRuleHost = "IST0174" Warning "no service has the host {}", "correct the host, or remove the rule",
        "The rule is for a host that is no service of the mesh, as seen from the rule's namespace. It does nothing.";
    JwksUriFetchUnrestricted = "IST0175" Warning "{} RequestAuthentications ({}) may make the control plane fetch from any address", "set BLOCKED_CIDRS_IN_JWKS_URIS",
        "The control plane fetches keys from the addresses that RequestAuthentications name. Whoever may write one can make it call addresses that only it can reach, such as the cloud's metadata server.";
    GatewayAPICRDVersionBelowMinimum = "IST0176" Warning "{} is of version {}, older than {}; its objects are ignored", "update Gateway API's definitions",
        "The kind's definition is of an older release of Gateway API than the one whose objects are read. They are ignored.";
    ConflictingServiceEntryProtocol = "IST0177" Warning "ServiceEntries {} give host {} port {} different protocols: {}", "use one protocol",
        "ServiceEntries that are visible in the same namespace define the same host and port with different protocols. Which of them holds is not defined.";
    GatewayCredentialEndsSoon = "ARG0001" Warning "the certificate of credential {} of gateway {} ends soon, at {}", "renew the certificate, and look why that did not happen by itself",
        "The certificate is valid, but not for much longer: for less than a fifth of its life, and less than two weeks. What renews it has not done so.";
    GatewayHostNotInCertificate = "ARG0002" Warning "no certificate of this server has a name for its host {} (credentials: {})", "get a certificate with that name among its subject alternative names, or correct the host",
        "Clients compare the host that they ask for with the names in the certificate, and refuse one that does not have it. The certificate's subject does not count.";
    UnknownTelemetryProvider = "ARG0003" Warning "there is no extension provider {}; what is asked of it is not done",
        "add it to MeshConfig's extensionProviders, or correct the name",
        "A Telemetry, or MeshConfig's defaultProviders, names a provider that MeshConfig's extensionProviders do not have. No log, metric or trace goes there.";
}

impl Code {
    /// The message with that code or name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.id() == name || code.name() == name)
    }

    /// What it means in one sentence, whole and without gaps.
    pub fn summary(self) -> &'static str {
        let meaning = self.meaning();
        let end = meaning.find(". ").map_or(meaning.len(), |at| at + 1);
        meaning.get(..end).unwrap_or(meaning)
    }

    /// Where it is documented.
    pub fn url(self) -> String {
        docs(&format!("{}.md", self.id()))
    }

    /// The words with their gaps filled.
    pub(crate) fn text(self, args: &[&dyn Display]) -> String {
        let mut text = String::new();
        let mut args = args.iter();
        for (index, piece) in self.template().split("{}").enumerate() {
            if index > 0
                && let Some(arg) = args.next()
            {
                text.push_str(&arg.to_string());
            }
            text.push_str(piece);
        }
        text
    }
}

/// Where a page about analysis is: in the sources' `docs/analysis`, or below the address that the variable
/// `ARGOSY_DOCS_URL` had when this was built.
pub fn docs(page: &str) -> String {
    let base = option_env!("ARGOSY_DOCS_URL").unwrap_or("docs");
    format!("{}/analysis/{page}", base.trim_end_matches('/'))
}

impl fmt::Display for Code {
    /// `IST0101 ReferencedResourceNotFound`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_and_differ() {
        for &code in Code::ALL {
            assert_eq!(Code::find(code.id()), Some(code));
            assert_eq!(Code::find(code.name()), Some(code));
            assert!(!code.help().is_empty() && !code.meaning().is_empty());
            let summary = code.summary();
            assert!(
                summary.len() > 10 && summary.ends_with('.') && !summary.contains(['{', '…']),
                "{summary}"
            );
        }
        assert_eq!(Code::find("IST0104"), None, "retired");
    }

    #[test]
    fn gaps_are_filled_in_order() {
        let text = Code::ReferencedResourceNotFound.text(&[&"gateway", &"shop/front"]);
        assert_eq!(text, "there is no gateway shop/front");
    }
}
