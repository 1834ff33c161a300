//! Pods that ask for other than the usual: each runs in a real cluster, and is asked through its proxy.

use anyhow::Context;
use mesh::Seen;
use serde_json::Value;
use testkit::wait::until_blocking as until;

use crate::day::{BOUND, Day, has_native_sidecar};

/// Their namespace, where mutual TLS is demanded.
const ODD: &str = "odd";
/// `transparent` gets connections with their callers' addresses; `classic` has a proxy that is no native sidecar, before which it does not
/// start; `own` changes its proxy's container; `open` leaves its port out of the mesh; `probed` is probed by TCP and by HTTP, and has a
/// hook; `gate` is a proxy and nothing else.
const PODS: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: v1
kind: Pod
metadata:
  name: transparent
  labels: {app: transparent}
  annotations: {sidecar.istio.io/interceptionMode: TPROXY}
spec:
  containers:
  - {name: app, image: 'localhost/argosy/sample:dev', args: [--name, transparent, --http, '0.0.0.0:8080'], ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: classic
  labels: {app: classic}
  annotations:
    sidecar.istio.io/nativeSidecar: 'false'
    proxy.istio.io/config: '{holdApplicationUntilProxyStarts: true}'
spec:
  containers:
  - {name: app, image: 'localhost/argosy/sample:dev', args: [--name, classic, --http, '0.0.0.0:8080'], ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: own
  labels: {app: own}
  annotations:
    sidecar.istio.io/userVolume: '{\"scratch\": {\"emptyDir\": {}}}'
    sidecar.istio.io/userVolumeMount: '{\"scratch\": {\"mountPath\": \"/scratch\"}}'
spec:
  containers:
  - {name: app, image: 'localhost/argosy/sample:dev', args: [--name, own, --http, '0.0.0.0:8080'], ports: [{containerPort: 8080}]}
  - {name: istio-proxy, image: auto, env: [{name: ISTIO_META_OWN, value: 'yes'}], resources: {limits: {memory: 300Mi}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: open
  labels: {app: open}
  annotations: {traffic.sidecar.istio.io/excludeInboundPorts: '8080'}
spec:
  containers:
  - {name: app, image: 'localhost/argosy/sample:dev', args: [--name, open, --http, '0.0.0.0:8080'], ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: probed, labels: {app: probed}}
spec:
  containers:
  - name: app
    image: localhost/argosy/sample:dev
    args: [--name, probed, --http, '0.0.0.0:8080']
    ports: [{name: web, containerPort: 8080}]
    startupProbe: {tcpSocket: {port: web}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {httpGet: {path: /healthz, port: web}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    lifecycle: {preStop: {httpGet: {path: /bye, port: web}}}
---
apiVersion: v1
kind: Pod
metadata: {name: gate, labels: {app: gate}, annotations: {inject.istio.io/templates: gateway}}
spec:
  containers: [{name: istio-proxy, image: auto}]
";
/// Ends by itself, and its proxy with it.
const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  backoffLimit: 0
  template:
    metadata: {labels: {app: once}}
    spec:
      restartPolicy: Never
      containers:
      - {name: app, image: 'localhost/argosy/argosy:dev', args: [check, --ready, 'http://probed:8080/healthz']}
";
/// A Service for each that is asked.
const SERVED: [&str; 5] = ["transparent", "classic", "own", "open", "probed"];

impl Day {
    /// All of them at once.
    pub(crate) async fn odd(&self) -> anyhow::Result<Seen> {
        self.labelled(ODD)?;
        for name in SERVED {
            let service = format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}},
                  spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 8080}}]}}}}"
            );
            self.cluster.apply(ODD, &service)?;
        }
        self.cluster.apply(ODD, PODS)?;
        let wait = format!("--timeout={}s", BOUND.as_secs());
        let ready = ["wait", "--namespace", ODD, "--for=condition=Ready", &wait];
        let pods = SERVED.iter().chain(&["gate"]).map(|name| format!("pod/{name}"));
        let pods: Vec<String> = pods.collect();
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        self.cluster.kubectl(&[&ready[..], &pods].concat())?;
        self.cluster.apply(ODD, JOB)?;
        let ended = [
            "wait",
            "--namespace",
            ODD,
            "--for=condition=Complete",
            "job/once",
            &wait,
        ];
        self.cluster.kubectl(&ended)?;
        self.as_asked_for()?;
        let open = self.outside_of_the_mesh()?;
        for name in SERVED.iter().filter(|&&name| name != "open") {
            let query = format!("count=4&host={name}.{ODD}:8080");
            self.called(&query, |o| o.statuses.get("200") == Some(&4)).await?;
        }
        self.cluster
            .kubectl(&["delete", "namespace", ODD, "--wait=false"])?;
        let told = format!(
            "{} pods by mutual TLS, a gateway by its template and a Job that ended; {open}",
            SERVED.len() - 1
        );
        Ok(Seen::new(true, told))
    }

    /// What injection made of them.
    fn as_asked_for(&self) -> anyhow::Result<()> {
        let pod = |name: &str| self.cluster.get(&["pod", name, "--namespace", ODD]);
        let named = |containers: &Value, name: &str| -> Option<Value> {
            containers
                .as_array()?
                .iter()
                .find(|one| one["name"] == name)
                .cloned()
        };
        let classic = pod("classic")?;
        let first = &classic["spec"]["containers"][0]["name"];
        anyhow::ensure!(!has_native_sidecar(&classic), "classic has a native sidecar");
        anyhow::ensure!(
            first == "istio-proxy",
            "the first container of classic is {first}"
        );
        let own = named(&pod("own")?["spec"]["initContainers"], "istio-proxy").context("own has no proxy")?;
        let has = |list: &str, name: &str| named(&own[list], name).is_some();
        anyhow::ensure!(
            has("env", "ISTIO_META_OWN") && has("volumeMounts", "scratch"),
            "the proxy of own: {own}"
        );
        anyhow::ensure!(
            own["resources"]["limits"]["memory"] == "300Mi",
            "the proxy of own: {own}"
        );
        let transparent = pod("transparent")?;
        let init = &transparent["spec"]["initContainers"];
        let proxy = named(init, "istio-proxy").context("transparent has no proxy")?;
        let added = &proxy["securityContext"]["capabilities"]["add"][0];
        anyhow::ensure!(added == "NET_ADMIN", "the proxy of transparent may {added}");
        Ok(())
    }

    /// Plaintext reaches the port that was left out, and no other.
    fn outside_of_the_mesh(&self) -> anyhow::Result<String> {
        let ask = |name: &str| self.cluster.proxied(ODD, &format!("pods/{name}:8080"), "/");
        until("plaintext at an excluded port", BOUND, || ask("open").map(drop))?;
        match ask("probed") {
            Ok(answer) => anyhow::bail!("plaintext is taken where mutual TLS is demanded: {answer}"),
            Err(error) => {
                let said = format!("{error:#}");
                anyhow::ensure!(said.contains("error trying to reach service"), "{said}");
            }
        }
        Ok("plaintext reaches the excluded port alone".to_owned())
    }
}
