//! EnvoyFilter: patches to generated Envoy configuration.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::LabelsSelector;
use crate::api::{api, api_enum};
use crate::selector::PolicyTargetReference;

api! {
    /// Patches for the proxies that `workloadSelector` chooses, in ascending `priority`.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::WORKLOADS_OR_TARGETS])))]
    pub struct EnvoyFilter {
        workload_selector: Option<LabelsSelector>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        config_patches: Vec<EnvoyConfigObjectPatch>,
        priority: i32,
        /// Istio 1.4's form: workloads by labels.
        workload_labels: BTreeMap<String, String>,
        /// Istio 1.4's form: filters put into listeners.
        filters: Vec<LegacyFilter>,
    }

    /// What is patched, where, and how.
    pub struct EnvoyConfigObjectPatch {
        apply_to: ApplyTo,
        r#match: Option<EnvoyConfigObjectMatch>,
        patch: Option<Patch>,
    }

    /// Which generated objects a patch is for.
    #[schemars(extend(
        "x-oneof" = [["listener", "routeConfiguration", "cluster", "waypoint"]],
        "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::WAYPOINT])
    ))]
    pub struct EnvoyConfigObjectMatch {
        context: PatchContext,
        proxy: Option<ProxyMatch>,
        listener: Option<ListenerMatch>,
        route_configuration: Option<RouteConfigurationMatch>,
        cluster: Option<ClusterMatch>,
        waypoint: Option<WaypointMatch>,
    }

    /// Conditions on the proxy.
    pub struct ProxyMatch {
        /// Regular expression over the proxy's Istio version.
        proxy_version: String,
        metadata: BTreeMap<String, String>,
    }

    /// Conditions on a cluster.
    pub struct ClusterMatch {
        port_number: u32,
        service: String,
        subset: String,
        name: String,
    }

    /// Conditions on a route configuration.
    pub struct RouteConfigurationMatch {
        port_number: u32,
        port_name: String,
        gateway: String,
        vhost: Option<VirtualHostMatch>,
        name: String,
    }

    /// Conditions on a virtual host.
    pub struct VirtualHostMatch {
        name: String,
        domain_name: String,
        route: Option<RouteMatch>,
    }

    /// Conditions on a route.
    pub struct RouteMatch {
        name: String,
        action: RouteAction,
    }

    /// Conditions on a listener.
    pub struct ListenerMatch {
        port_number: u32,
        port_name: String,
        filter_chain: Option<FilterChainMatch>,
        listener_filter: String,
        name: String,
    }

    /// Conditions on a filter chain.
    pub struct FilterChainMatch {
        name: String,
        sni: String,
        transport_protocol: String,
        application_protocols: String,
        filter: Option<FilterMatch>,
        destination_port: u32,
        transport_socket: String,
    }

    /// Conditions on a network filter.
    pub struct FilterMatch {
        name: String,
        sub_filter: Option<SubFilterMatch>,
    }

    /// Conditions on a filter in another, such as an HTTP filter.
    pub struct SubFilterMatch {
        name: String,
    }

    /// Conditions on a waypoint's configuration.
    pub struct WaypointMatch {
        #[schemars(range(max = 65535))]
        port_number: u32,
        route: Option<WaypointRouteMatch>,
        filter: Option<FilterMatch>,
    }

    /// Conditions on a waypoint's route.
    pub struct WaypointRouteMatch {
        name: String,
    }

    /// The change.
    pub struct Patch {
        operation: PatchOperation,
        /// Envoy configuration as JSON.
        value: Option<Map<String, Value>>,
        filter_class: FilterClass,
    }

    /// Istio 1.4: a filter put into listeners.
    pub struct LegacyFilter {
        listener_match: Option<LegacyListenerMatch>,
        insert_position: Option<LegacyInsertPosition>,
        filter_type: LegacyFilterType,
        filter_name: String,
        filter_config: Option<Map<String, Value>>,
    }

    /// Istio 1.4: conditions on a listener.
    pub struct LegacyListenerMatch {
        port_number: u32,
        port_name_prefix: String,
        listener_type: LegacyListenerType,
        listener_protocol: LegacyListenerProtocol,
        address: Vec<String>,
    }

    /// Istio 1.4: where a filter is put.
    pub struct LegacyInsertPosition {
        index: LegacyInsertIndex,
        relative_to: String,
    }
}

api_enum! {
    /// Which part of the configuration is patched.
    pub enum ApplyTo {
        #[default]
        Invalid = "INVALID",
        Listener = "LISTENER",
        FilterChain = "FILTER_CHAIN",
        NetworkFilter = "NETWORK_FILTER",
        HttpFilter = "HTTP_FILTER",
        RouteConfiguration = "ROUTE_CONFIGURATION",
        VirtualHost = "VIRTUAL_HOST",
        HttpRoute = "HTTP_ROUTE",
        Cluster = "CLUSTER",
        ExtensionConfig = "EXTENSION_CONFIG",
        Bootstrap = "BOOTSTRAP",
        ListenerFilter = "LISTENER_FILTER",
    }

    /// Which traffic's configuration is patched.
    pub enum PatchContext {
        #[default]
        Any = "ANY",
        SidecarInbound = "SIDECAR_INBOUND",
        SidecarOutbound = "SIDECAR_OUTBOUND",
        Gateway = "GATEWAY",
        Waypoint = "WAYPOINT",
    }

    /// What a matched route does.
    pub enum RouteAction {
        #[default]
        Any = "ANY",
        Route = "ROUTE",
        Redirect = "REDIRECT",
        DirectResponse = "DIRECT_RESPONSE",
    }

    /// How a patch is applied.
    pub enum PatchOperation {
        #[default]
        Invalid = "INVALID",
        Merge = "MERGE",
        Add = "ADD",
        Remove = "REMOVE",
        InsertBefore = "INSERT_BEFORE",
        InsertAfter = "INSERT_AFTER",
        InsertFirst = "INSERT_FIRST",
        Replace = "REPLACE",
        MergeAndReplaceList = "MERGE_AND_REPLACE_LIST",
    }

    /// Among which of Istio's filters an added one belongs.
    pub enum FilterClass {
        #[default]
        Unspecified = "UNSPECIFIED",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }

    /// Istio 1.4: kinds of filters.
    pub enum LegacyFilterType {
        #[default]
        Invalid = "INVALID",
        Http = "HTTP",
        Network = "NETWORK",
    }

    /// Istio 1.4: kinds of listeners.
    pub enum LegacyListenerType {
        #[default]
        Any = "ANY",
        SidecarInbound = "SIDECAR_INBOUND",
        SidecarOutbound = "SIDECAR_OUTBOUND",
        Gateway = "GATEWAY",
    }

    /// Istio 1.4: protocols of listeners.
    pub enum LegacyListenerProtocol {
        #[default]
        All = "ALL",
        Http = "HTTP",
        Tcp = "TCP",
    }

    /// Istio 1.4: positions in a filter chain.
    pub enum LegacyInsertIndex {
        #[default]
        First = "FIRST",
        Last = "LAST",
        Before = "BEFORE",
        After = "AFTER",
    }
}
