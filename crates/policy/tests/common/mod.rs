//! Meshes for the tests, written as YAML.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::{Finding, Object};
use model::Identity;
use policy::{Rules, ServiceView, WorkloadView};

pub(crate) fn objects(yaml: &str) -> Vec<Arc<Object>> {
    let parsed = config::parse("test.yaml", yaml.as_bytes(), "shop");
    let errors: Vec<_> = parsed
        .findings
        .iter()
        .filter(|f| f.is_error())
        .map(ToString::to_string)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    parsed.objects.into_iter().map(Arc::new).collect()
}

pub(crate) fn build(yaml: &str) -> (Rules, Vec<Finding>) {
    Rules::build(&objects(yaml), &MeshConfig::default().with_defaults())
}

pub(crate) fn rules(yaml: &str) -> Rules {
    let (rules, findings) = build(yaml);
    assert!(findings.is_empty(), "{findings:#?}");
    rules
}

/// A workload of namespace shop whose service has the account's name.
pub(crate) fn workload(account: &str, version: &str) -> WorkloadView {
    let labels = [("app", account), ("version", version)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let service = ServiceView {
        host: format!("{account}.shop.svc.cluster.local"),
        name: account.into(),
        namespace: "shop".into(),
        ports: vec![8080],
        labels: None,
    };
    WorkloadView::new(
        &format!("{account}-{version}"),
        &Identity::new("cluster.local", "shop", account),
        Arc::new(BTreeMap::from(labels)),
        Some([127, 1, 0, 21].into()),
        vec![service],
    )
}

pub(crate) const DENIER: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: deny, namespace: shop}
spec:
  compiledAdapter: denier
  params: {status: {code: 7, message: Not allowed}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: request, namespace: shop}
spec: {compiledTemplate: checknothing}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: denyv3, namespace: shop}
spec:
  match: destination.labels["app"] == "ratings" && source.labels["app"] == "reviews" && source.labels["version"] == "v3"
  actions:
  - handler: deny
    instances: [request]
"#;

pub(crate) const QUOTA: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: memquota
metadata: {name: handler, namespace: istio-system}
spec:
  quotas:
  - name: requestcount.quota.istio-system
    maxAmount: 3
    validDuration: 10s
    overrides:
    - dimensions: {user: jason}
      maxAmount: 1
      validDuration: 10s
---
apiVersion: config.istio.io/v1alpha2
kind: quota
metadata: {name: requestcount, namespace: istio-system}
spec:
  dimensions:
    user: request.headers["x-user"] | "unknown"
    source: source.labels["app"] | "unknown"
---
apiVersion: config.istio.io/v1alpha2
kind: QuotaSpec
metadata: {name: request-count, namespace: istio-system}
spec:
  rules:
  - quotas:
    - charge: 1
      quota: requestcount
---
apiVersion: config.istio.io/v1alpha2
kind: QuotaSpecBinding
metadata: {name: request-count, namespace: istio-system}
spec:
  quotaSpecs:
  - name: request-count
    namespace: istio-system
  services:
  - name: ratings
    namespace: shop
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: quota, namespace: istio-system}
spec:
  match: (request.headers["x-internal"] | "no") != "yes"
  actions:
  - handler: handler.memquota
    instances: [requestcount.quota]
"#;

/// Makes charges in memory until one is refused.
pub(crate) fn charge(
    due: Result<Vec<policy::Due>, Box<policy::QuotaDenial>>,
    windows: &mut policy::Windows,
    now: i64,
) -> Result<(), Box<policy::QuotaDenial>> {
    due?.iter().try_for_each(|due| due.charge(windows, now))
}
