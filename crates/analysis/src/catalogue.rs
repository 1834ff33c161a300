//! The catalogue of messages: code, name, severity, words, way out. Codes, names and severities are Istio's
//! (pkg/config/analysis/msg), so that habits and suppressions carry over; the words are ours. `{}` is a gap.

use std::fmt::{self, Display};

use config::Severity;

macro_rules! codes {
    ($($variant:ident = $id:literal $severity:ident $text:literal, $help:literal;)*) => {
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

            /// The way out.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

codes! {
    Deprecated = "IST0002" Warning "deprecated: {}", "move to what replaces it before it is removed";
    ReferencedResourceNotFound = "IST0101" Error "there is no {} {}", "create it, or correct the reference";
    NamespaceNotInjected = "IST0102" Info "pods of this namespace get no sidecar",
        "label it istio-injection=enabled, or istio-injection=disabled if that is meant";
    PodMissingProxy = "IST0103" Warning "pod {} is in a namespace with injection but has no sidecar", "restart the workload, so that its pods are injected";
    SchemaValidationError = "IST0106" Error "{}", "correct the field";
    MisplacedAnnotation = "IST0107" Warning "annotation {} has no effect here; it belongs on {}", "move or remove it";
    UnknownAnnotation = "IST0108" Warning "annotation {} is not known", "check its spelling, or remove it";
    ConflictingMeshGatewayVirtualServiceHosts = "IST0109" Error "VirtualServices {} all have routes for {} in sidecars; which one holds is not defined",
        "merge them into one, or narrow their exportTo";
    ConflictingSidecarWorkloadSelectors = "IST0110" Error "Sidecars {} of namespace {} all select pod {}; which one holds is not defined", "make their selectors disjoint";
    MultipleSidecarsWithoutWorkloadSelectors = "IST0111" Error "Sidecars {} are all meant for the whole namespace {}; only one holds", "keep one, or give the others a workloadSelector";
    VirtualServiceDestinationPortSelectorRequired = "IST0112" Error "{} has several ports ({}) and the destination does not say which", "set destination.port.number";
    DeploymentAssociatedToMultipleServices = "IST0116" Warning "deployment {} is behind several Services that use port {} with different protocols: {}",
        "use one protocol per port, or other ports";
    PortNameIsNotUnderNamingConvention = "IST0118" Info "port {} ({}, target {}) does not say its protocol, which is then guessed from the first bytes",
        "name it PROTOCOL or PROTOCOL-SUFFIX, or set appProtocol";
    NamespaceMultipleInjectionLabels = "IST0123" Warning "the namespace has several labels that ask for injection or ambient mode: {}", "keep one of them";
    InvalidAnnotation = "IST0125" Warning "annotation {} is not valid: {}", "correct its value";
    UnknownMeshNetworksServiceRegistry = "IST0126" Error "registry {} of network {} is not known", "name a cluster that has a remote secret, or Kubernetes";
    NoMatchingWorkloadsFound = "IST0127" Warning "no workload of the mesh is selected by {}", "correct the selector, or remove the policy";
    NoServerCertificateVerificationDestinationLevel = "IST0128" Warning "TLS mode {} to {} has no caCertificates, so the server's certificate is not verified",
        "set caCertificates, or credentialName together with a workloadSelector";
    NoServerCertificateVerificationPortLevel = "IST0129" Warning "TLS mode {} to {} port {} has no caCertificates, so the server's certificate is not verified",
        "set caCertificates, or credentialName together with a workloadSelector";
    VirtualServiceUnreachableRule = "IST0130" Warning "rule {} is {}", "remove it, or put it before the rule that takes its requests";
    VirtualServiceIneffectiveMatch = "IST0131" Info "match {} is {}", "remove it, or put it before the rule that takes its requests";
    VirtualServiceHostNotFoundInGateway = "IST0132" Warning "no server of gateway {} serves any of the hosts {}", "add a host to the Gateway, or correct the VirtualService's hosts";
    SchemaWarning = "IST0133" Warning "{}", "correct the field";
    ServiceEntryAddressesRequired = "IST0134" Warning "a TCP port without addresses takes all traffic to that port number", "set addresses, or let addresses be allocated";
    DeprecatedAnnotation = "IST0135" Info "annotation {} is deprecated{}", "replace it before it is removed";
    AlphaAnnotation = "IST0136" Info "annotation {} is an alpha feature and may change or be incomplete", "do not rely on it in production";
    DeploymentConflictingPorts = "IST0137" Warning "deployment {} is behind Services {} that use target port {} for different ports: {}", "use the same port in all of them";
    GatewayDuplicateCertificate = "IST0138" Warning "gateways {} present the same certificate; clients that reuse HTTP/2 connections may get 404", "use one Gateway, or a certificate each";
    InvalidWebhook = "IST0139" Error "{}", "correct the webhook, so that each pod is injected once and by a Service that exists";
    IngressRouteRulesNotAffected = "IST0140" Warning "subsets of VirtualService {} have no effect on requests that come in by {}", "route to the subset here too";
    InsufficientPermissions = "IST0141" Error "{} may not be created: {}", "ask for the right to create it";
    UnsupportedKubernetesVersion = "IST0142" Error "Kubernetes {} is older than {}, the oldest supported", "update the cluster";
    LocalhostListener = "IST0143" Error "port {} is that of a Service, but the process listens on localhost only", "listen on all addresses";
    InvalidApplicationUID = "IST0144" Warning "user id 1337 is the sidecar's; traffic of this container would pass the sidecar by", "run the application as another user";
    ConflictingGateways = "IST0145" Error "gateways {} serve the same hosts too (selector {}, port {}, hosts {})", "let one Gateway serve each host and port";
    ImageAutoWithoutInjectionWarning = "IST0146" Warning "{} {} leaves its proxy's image to injection, but no injection webhook selects it", "label it or its namespace for injection";
    ImageAutoWithoutInjectionError = "IST0147" Error "{} {} still has the image \"auto\": it was not injected", "label it or its namespace for injection, and make it anew";
    NamespaceInjectionEnabledByDefault = "IST0148" Info "pods of this namespace get a sidecar, since the mesh injects by default", "label it istio-injection=disabled if they should not";
    JwtClaimBasedRoutingWithoutRequestAuthN = "IST0149" Error "routes by the claim {}, but no RequestAuthentication applies at gateway {}, pod {}",
        "apply a RequestAuthentication to the gateway";
    ExternalNameServiceTypeInvalidPortName = "IST0150" Warning "port {} of an ExternalName Service is taken as plain TCP; traffic may not be forwarded", "name it by its protocol, such as https or tls";
    EnvoyFilterUsesRelativeOperation = "IST0151" Warning "a patch depends on other filters, but the EnvoyFilter has no priority, so it may come too early", "set priority, or use INSERT_FIRST or ADD";
    EnvoyFilterUsesReplaceOperationIncorrectly = "IST0152" Error "REPLACE is for HTTP_FILTER, NETWORK_FILTER and VIRTUAL_HOST only", "use MERGE, or another applyTo";
    EnvoyFilterUsesAddOperationIncorrectly = "IST0153" Error "ADD has no effect on ROUTE_CONFIGURATION and HTTP_ROUTE", "use MERGE or an INSERT operation";
    EnvoyFilterUsesRemoveOperationIncorrectly = "IST0154" Error "REMOVE has no effect on ROUTE_CONFIGURATION and HTTP_ROUTE", "use MERGE, or remove what contains it";
    EnvoyFilterUsesRelativeOperationWithProxyVersion = "IST0155" Warning "a patch depends on a filter that another patch has for some proxy versions only, and there is no priority",
        "set priority, or use INSERT_FIRST or ADD";
    UnsupportedGatewayAPIVersion = "IST0156" Error "Gateway API {} is older than {}, the oldest supported", "update its definitions";
    InvalidTelemetryProvider = "IST0157" Warning "Telemetry {} of namespace {} names no provider and the mesh has no default one, so it is ignored",
        "set providers, or defaultProviders.accessLogging in MeshConfig";
    PodsIstioProxyImageMismatchInNamespace = "IST0158" Warning "proxies of pods {} have another image than the injector would give them", "restart the workloads";
    ConflictingTelemetryWorkloadSelectors = "IST0159" Error "Telemetries {} of namespace {} all select pod {}; which one holds is not defined", "make their selectors disjoint";
    MultipleTelemetriesWithoutWorkloadSelectors = "IST0160" Error "Telemetries {} are all meant for the whole namespace {}; which one holds is not defined", "keep one, or give the others a selector";
    InvalidGatewayCredential = "IST0161" Error "credential {} of gateway {} cannot be used: {}", "put a certificate that is valid now, and its key, into the Secret";
    GatewayPortNotDefinedOnService = "IST0162" Warning "port {} is not a port of any Service in front of the pods {}", "add it to the Service, or correct the port";
    InvalidExternalControlPlaneConfig = "IST0163" Warning "webhook {} does not reach a control plane: address {} {}", "give a URL or a Service";
    ExternalControlPlaneAddressIsNotAHostname = "IST0164" Info "webhook {} reaches the control plane by an IP address ({})", "use a host name in production";
    ReferencedInternalGateway = "IST0165" Warning "{} is a gateway that was generated for a Gateway API object", "use an HTTPRoute, or a Gateway of your own";
    IneffectiveSelector = "IST0166" Warning "selectors have no effect on Gateway API's gateway {}", "use targetRefs";
    IneffectivePolicy = "IST0167" Warning "this has no effect: {}", "remove it, or use a policy that ambient mode knows";
    UnknownUpgradeCompatibility = "IST0168" Warning "{} has changed in {}: {}", "check whether you rely on it before you update";
    UpdateIncompatibility = "IST0169" Warning "{} has changed in {}: {}", "adapt to it before you update";
    MultiClusterInconsistentService = "IST0170" Warning "Service {} of namespace {} is not the same in clusters {}: {}", "make them the same";
    NegativeConditionStatus = "IST0171" Warning "condition {} is negative ({}): {}", "see the controller that wrote it";
    FutureUnsupportedGatewayAPIVersion = "IST0172" Warning "Gateway API {} will not be supported soon; {} will be the oldest", "update its definitions";
    DestinationRuleSubsetNotSelectPods = "IST0173" Error "subset {} selects no pod; requests to it get 503", "correct its labels, or those of the pods";
    UnknownDestinationRuleHost = "IST0174" Warning "no service has the host {}", "correct the host, or remove the rule";
    JwksUriFetchUnrestricted = "IST0175" Warning "{} RequestAuthentications ({}) may make the control plane fetch from any address", "set BLOCKED_CIDRS_IN_JWKS_URIS";
    GatewayAPICRDVersionBelowMinimum = "IST0176" Warning "{} is of version {}, older than {}; its objects are ignored", "update Gateway API's definitions";
    ConflictingServiceEntryProtocol = "IST0177" Warning "ServiceEntries {} give host {} port {} different protocols: {}", "use one protocol";
}

impl Code {
    /// The message with that code or name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.id() == name || code.name() == name)
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
            assert!(!code.help().is_empty());
        }
        assert_eq!(Code::find("IST0104"), None, "retired");
    }

    #[test]
    fn gaps_are_filled_in_order() {
        let text = Code::ReferencedResourceNotFound.text(&[&"gateway", &"shop/front"]);
        assert_eq!(text, "there is no gateway shop/front");
    }
}
