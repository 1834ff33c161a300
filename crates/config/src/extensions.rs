//! extensions.istio.io: code run inside the proxy.
#![allow(
    missing_docs,
    reason = "fields are named and described by Istio's API reference; only the unobvious is noted"
)]

use serde_json::{Map, Value};

use crate::api::{api, api_enum};
use crate::selector::{PolicyTargetReference, PortNumber, WorkloadMode, WorkloadSelector};

api! {
    /// A Wasm module in the proxies that `selector` chooses.
    #[schemars(extend("required" = ["url"], "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::ATTACHED_ONCE])))]
    pub struct WasmPlugin {
        selector: Option<WorkloadSelector>,
        target_ref: Option<PolicyTargetReference>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        #[schemars(length(min = 1), extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::MODULE])))]
        url: String,
        #[schemars(regex(pattern = r"(^$|^[a-f0-9]{64}$)"))]
        sha256: String,
        image_pull_policy: PullPolicy,
        #[schemars(length(min = 1, max = 253))]
        image_pull_secret: String,
        verification_key: String,
        plugin_config: Option<Map<String, Value>>,
        #[schemars(length(min = 1, max = 256))]
        plugin_name: String,
        phase: PluginPhase,
        priority: Option<i32>,
        fail_strategy: FailStrategy,
        vm_config: Option<VmConfig>,
        r#match: Vec<TrafficSelector>,
        r#type: PluginType,
    }

    /// Which traffic an extension sees.
    pub struct TrafficSelector {
        mode: WorkloadMode,
        ports: Vec<PortNumber>,
    }

    /// The virtual machine's environment.
    pub struct VmConfig {
        #[schemars(length(max = 256), extend(
            "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]
        ))]
        env: Vec<EnvVar>,
    }

    /// An environment variable, given or taken from the proxy's own.
    #[schemars(extend("required" = ["name"], "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::INLINE_VALUE])))]
    pub struct EnvVar {
        #[schemars(length(min = 1, max = 256))]
        name: String,
        value_from: EnvValueSource,
        #[schemars(length(max = 2048))]
        value: String,
    }

    /// A Wasm module or a Lua script in the proxies that `selector` chooses.
    #[schemars(extend(
        "x-oneof" = [["wasm", "lua"]],
        "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::SELECTED_OR_TARGETED, crate::cel::WASM_OR_LUA])
    ))]
    pub struct TrafficExtension {
        selector: Option<WorkloadSelector>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        phase: ExecutionPhase,
        priority: Option<i32>,
        r#match: Vec<TrafficSelector>,
        wasm: Option<WasmConfig>,
        lua: Option<LuaConfig>,
    }

    /// A Wasm module.
    #[schemars(extend("required" = ["url"]))]
    pub struct WasmConfig {
        #[schemars(length(min = 1), extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::MODULE])))]
        url: String,
        #[schemars(regex(pattern = r"(^$|^[a-f0-9]{64}$)"))]
        sha256: String,
        image_pull_policy: PullPolicy,
        #[schemars(length(min = 1, max = 253))]
        image_pull_secret: String,
        verification_key: String,
        plugin_config: Option<Map<String, Value>>,
        #[schemars(length(min = 1, max = 256))]
        plugin_name: String,
        fail_strategy: FailStrategy,
        vm_config: Option<VmConfig>,
        r#type: PluginType,
    }

    /// A Lua script.
    #[schemars(extend("required" = ["inlineCode"]))]
    pub struct LuaConfig {
        #[schemars(length(min = 1, max = 65536))]
        inline_code: String,
    }
}

api_enum! {
    /// When a module is fetched.
    pub enum PullPolicy {
        #[default]
        Unspecified = "UNSPECIFIED_POLICY",
        IfNotPresent = "IfNotPresent",
        Always = "Always",
    }

    /// Where in the filter chain a plugin runs.
    pub enum PluginPhase {
        #[default]
        Unspecified = "UNSPECIFIED_PHASE",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }

    /// Where in the filter chain an extension runs.
    pub enum ExecutionPhase {
        #[default]
        Unspecified = "UNSPECIFIED",
        Authn = "AUTHN",
        Authz = "AUTHZ",
        Stats = "STATS",
    }

    /// What happens when a module fails.
    pub enum FailStrategy {
        #[default]
        FailClose = "FAIL_CLOSE",
        FailOpen = "FAIL_OPEN",
        FailReload = "FAIL_RELOAD",
    }

    /// Whether a plugin is an HTTP or a network filter.
    pub enum PluginType {
        #[default]
        Unspecified = "UNSPECIFIED_PLUGIN_TYPE",
        Http = "HTTP",
        Network = "NETWORK",
    }

    /// Where a variable's value comes from.
    pub enum EnvValueSource {
        #[default]
        Inline = "INLINE",
        Host = "HOST",
    }
}
