//! Probes of the kubelet's pass through the agent: the proxy would refuse what comes without the mesh's TLS, and would itself
//! take connections that the application does not. The kubelet asks the agent; the agent asks the application, by
//! `ISTIO_KUBE_APP_PROBERS`, whose keys are the paths that the kubelet asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, GRPCAction, HTTPGetAction, LifecycleHandler, PodSpec, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

use crate::names::PROXY;

/// What the agent asks of the application, in Istio's form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppProbe {
    /// By HTTP or HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HTTPGetAction>,
    /// By a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<TCPSocketAction>,
    /// By gRPC's health protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GRPCAction>,
    /// Seconds that the application may take; 0 is Kubernetes' default, one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout_seconds: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(seconds: &i32) -> bool {
    *seconds == 0
}

/// What the agent asks of the application, by path.
pub type AppProbes = BTreeMap<String, AppProbe>;

/// Has the probes of all containers but the proxy's go to the agent's port. Gives what the agent is to ask instead. A probe
/// that names a port which the container does not have stays as it is: it fails with or without a proxy.
pub(crate) fn rewrite(spec: &mut PodSpec, status_port: u16) -> AppProbes {
    let mut probes = AppProbes::new();
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(&mut spec.containers).filter(|c| c.name != PROXY) {
        let mut one = Rewriter {
            container: container.name.clone(),
            ports: ports(container),
            status_port,
            probes: &mut probes,
        };
        one.probe("readyz", container.readiness_probe.as_mut());
        one.probe("livez", container.liveness_probe.as_mut());
        one.probe("startupz", container.startup_probe.as_mut());
        if let Some(lifecycle) = &mut container.lifecycle {
            one.hook("prestopz", lifecycle.pre_stop.as_mut());
            one.hook("poststartz", lifecycle.post_start.as_mut());
        }
    }
    probes
}

fn ports(container: &Container) -> BTreeMap<String, i32> {
    let named = container.ports.iter().flatten();
    named
        .filter_map(|port| Some((port.name.clone()?, port.container_port)))
        .collect()
}

struct Rewriter<'a> {
    container: String,
    ports: BTreeMap<String, i32>,
    status_port: u16,
    probes: &'a mut AppProbes,
}

impl Rewriter<'_> {
    fn probe(&mut self, kind: &str, probe: Option<&mut Probe>) {
        let Some(probe) = probe else { return };
        let mut asked = AppProbe {
            http_get: probe.http_get.clone(),
            tcp_socket: probe.tcp_socket.clone(),
            grpc: probe.grpc.clone(),
            timeout_seconds: probe.timeout_seconds.unwrap_or_default(),
        };
        if let Some(action) = self.taken(kind, &mut asked) {
            probe.http_get = Some(action);
            probe.tcp_socket = None;
            probe.grpc = None;
        }
    }

    fn hook(&mut self, kind: &str, hook: Option<&mut LifecycleHandler>) {
        let Some(hook) = hook else { return };
        let mut asked = AppProbe {
            http_get: hook.http_get.clone(),
            tcp_socket: hook.tcp_socket.clone(),
            ..AppProbe::default()
        };
        if let Some(action) = self.taken(kind, &mut asked) {
            hook.http_get = Some(action);
            hook.tcp_socket = None;
        }
    }

    /// What the kubelet asks instead, when the agent can ask: it cannot for commands, and need not for what asks it already.
    fn taken(&mut self, kind: &str, asked: &mut AppProbe) -> Option<HTTPGetAction> {
        let port = match (&asked.http_get, &asked.tcp_socket, &asked.grpc) {
            (Some(http), _, _) => self.number(&http.port)?,
            (None, Some(tcp), _) => self.number(&tcp.port)?,
            (None, None, Some(grpc)) => grpc.port,
            (None, None, None) => return None,
        };
        if port == i32::from(self.status_port) {
            return None;
        }
        if let Some(http) = &mut asked.http_get {
            http.port = IntOrString::Int(port);
        } else if let Some(tcp) = &mut asked.tcp_socket {
            tcp.port = IntOrString::Int(port);
        }
        let path = format!("/app-health/{}/{kind}", self.container);
        let action = self.action(&path, asked.http_get.as_ref());
        self.probes.insert(path, asked.clone());
        Some(action)
    }

    /// Names are the container's; the agent does not know them.
    fn number(&self, port: &IntOrString) -> Option<i32> {
        match port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => self.ports.get(name).copied().or_else(|| name.parse().ok()),
        }
    }

    /// The kubelet's headers and host go on with the request: the agent copies them. To the agent it always speaks HTTP.
    fn action(&self, path: &str, asked: Option<&HTTPGetAction>) -> HTTPGetAction {
        HTTPGetAction {
            host: None,
            http_headers: asked.and_then(|action| action.http_headers.clone()),
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(self.status_port)),
            scheme: asked
                .and_then(|action| action.scheme.clone())
                .map(|_| "HTTP".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "cases read better by value")]
    fn check(container: Value, expected: Value, asked: Value) {
        let spec = json!({"containers": [container, {"name": PROXY, "readinessProbe": {"httpGet": {"port": 15021}}}]});
        let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
        let proxy = spec.containers.last().cloned();
        let probes = rewrite(&mut spec, 15020);
        let found = serde_json::to_value(spec.containers.first()).unwrap();
        assert_eq!(found, expected);
        assert_eq!(serde_json::to_value(probes).unwrap(), asked);
        assert_eq!(
            spec.containers.last().cloned(),
            proxy,
            "the proxy's own probe stays"
        );
    }

    #[test]
    fn every_kind_of_probe_asks_the_agent() {
        check(
            json!({"name": "app", "ports": [{"name": "web", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "web", "scheme": "HTTPS"}, "timeoutSeconds": 3, "periodSeconds": 7},
                "livenessProbe": {"tcpSocket": {"port": 9000}},
                "startupProbe": {"grpc": {"port": 9001, "service": "s"}}}),
            json!({"name": "app", "ports": [{"name": "web", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/app-health/app/readyz", "port": 15020, "scheme": "HTTP"}, "timeoutSeconds": 3, "periodSeconds": 7},
                "livenessProbe": {"httpGet": {"path": "/app-health/app/livez", "port": 15020}},
                "startupProbe": {"httpGet": {"path": "/app-health/app/startupz", "port": 15020}}}),
            json!({
                "/app-health/app/readyz": {"httpGet": {"path": "/ready", "port": 8080, "scheme": "HTTPS"}, "timeoutSeconds": 3},
                "/app-health/app/livez": {"tcpSocket": {"port": 9000}},
                "/app-health/app/startupz": {"grpc": {"port": 9001, "service": "s"}}}),
        );
    }

    #[test]
    fn lifecycle_hooks_ask_it_too_and_commands_do_not() {
        check(
            json!({"name": "app", "livenessProbe": {"exec": {"command": ["true"]}},
                "lifecycle": {"preStop": {"httpGet": {"path": "/bye", "port": 80}}, "postStart": {"exec": {"command": ["hi"]}}}}),
            json!({"name": "app", "livenessProbe": {"exec": {"command": ["true"]}},
                "lifecycle": {"preStop": {"httpGet": {"path": "/app-health/app/prestopz", "port": 15020}}, "postStart": {"exec": {"command": ["hi"]}}}}),
            json!({"/app-health/app/prestopz": {"httpGet": {"path": "/bye", "port": 80}}}),
        );
    }

    #[test]
    fn what_names_no_port_or_asks_the_agent_already_stays() {
        let unknown = json!({"name": "app", "readinessProbe": {"httpGet": {"path": "/", "port": "nowhere"}}});
        check(unknown.clone(), unknown, json!({}));
        let again = json!({"name": "app", "readinessProbe": {"httpGet": {"path": "/app-health/app/readyz", "port": 15020}}});
        check(again.clone(), again, json!({}));
    }
}
