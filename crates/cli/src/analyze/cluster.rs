//! What a cluster holds, read with the rights that the caller has. What may not be read is named, and the analyzers that
//! would take it for absent are not asked.

use std::path::PathBuf;
use std::sync::Arc;

use analysis::{Denied, Facts};
use anyhow::{Context, anyhow};
use config::{Kind, Object, Severity};
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Read;
use super::args::Args;

/// Objects asked for at once.
const PAGE: usize = 500;
/// Most pages of one kind.
const MAX_PAGES: usize = 2_000;
/// How often a list is begun anew that has grown too old while it was read.
const RETRIES: usize = 3;
/// Secrets that are not worth the traffic: releases of Helm, tokens of accounts.
const SECRETS: &str =
    "fieldSelector=type!%3Dhelm.sh%2Frelease.v1,type!%3Dkubernetes.io%2Fservice-account-token";
/// What names of the control plane's ConfigMaps begin with.
const CONFIG_MAPS: &str = "istio";

/// Which clusters.
#[derive(clap::Args)]
pub(super) struct Access {
    /// Kubeconfig file; unless given, that of $KUBECONFIG or ~/.kube/config, or the pod's own account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; unless given, its current one
    #[arg(long)]
    context: Option<String>,
    /// Context of another cluster of the mesh, whose Services are compared; may be repeated
    #[arg(
        long = "remote-contexts",
        visible_alias = "remote-context",
        value_name = "CONTEXT"
    )]
    remotes: Vec<String>,
}

/// What was read.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) read: Read,
    pub(super) facts: Facts,
    /// Kinds that the caller may not read.
    pub(super) unreadable: Vec<Kind>,
    /// Namespace that the context is set to.
    pub(super) namespace: String,
}

/// Reads the kinds, and facts, from the cluster that the flags name.
pub(super) fn read(args: &Args, kinds: &[Kind]) -> anyhow::Result<Cluster> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let reading = tokio::time::timeout(args.timeout, read_all(args, kinds));
        reading.await.map_err(|_| {
            anyhow!(
                "the cluster did not answer within {:?}; see --timeout",
                args.timeout
            )
        })?
    })
}

async fn read_all(args: &Args, kinds: &[Kind]) -> anyhow::Result<Cluster> {
    let context = args.access.context.as_deref();
    let (client, namespace) = connect(&args.access, context).await?;
    let mut cluster = Cluster {
        namespace,
        ..Cluster::default()
    };
    if let Some(namespace) = args.namespace.as_deref().filter(|_| !args.all_namespaces) {
        require_namespace(&client, namespace).await?;
    }
    let mut lists = JoinSet::new();
    for kind in kinds
        .iter()
        .copied()
        .chain([Kind::ConfigMap])
        .collect::<std::collections::BTreeSet<_>>()
    {
        let (client, place) = (client.clone(), args.istio_namespace.clone());
        lists.spawn(async move { (kind, list(&client, kind, &place).await) });
    }
    let mut found: Vec<(Kind, Result<Vec<Value>, Refused>)> = lists.join_all().await;
    found.sort_by_key(|(kind, _)| *kind);
    for (kind, items) in found {
        match items {
            Ok(items) => cluster.add(kind, items),
            Err(Refused::Forbidden(reason)) => {
                eprintln!(
                    "argosy: {}: {reason}; analyzers that read {kind} are skipped",
                    kind.plural()
                );
                cluster.unreadable.push(kind);
            }
            Err(Refused::Failed(error)) => return Err(error.context(format!("reading {}", kind.plural()))),
        }
    }
    cluster.facts.clusters = clusters(&args.access, context, &cluster.read).await?;
    if args.precheck {
        let version = client
            .apiserver_version()
            .await
            .context("asking for the API server's version")?;
        cluster.facts.kubernetes_version = Some(version.git_version);
        cluster.facts.denied = denied(&client, &args.istio_namespace).await?;
    }
    Ok(cluster)
}

impl Cluster {
    fn add(&mut self, kind: Kind, items: Vec<Value>) {
        for item in items {
            let mut parsed = config::read(&item);
            // The API server has accepted Kubernetes' own kinds, and knows them better.
            if kind.is_kubernetes() {
                parsed.findings.clear();
            }
            // What Argosy does not serve yet is no news about a cluster that runs.
            parsed
                .findings
                .retain(|finding| finding.severity > Severity::Info);
            self.read.add(parsed);
        }
    }
}

async fn connect(access: &Access, context: Option<&str>) -> anyhow::Result<(Client, String)> {
    let help = "name a cluster with --kubeconfig or --context, or files with -f and no --cluster";
    let config = kubernetes::config(access.kubeconfig.as_deref(), context)
        .await
        .context(help)?;
    let namespace = config.default_namespace.clone();
    Ok((Client::try_from(config).context(help)?, namespace))
}

/// Why a kind's objects are not known.
enum Refused {
    Forbidden(String),
    Failed(anyhow::Error),
}

/// The objects of a kind in all namespaces; none where the cluster does not know the kind.
async fn list(client: &Client, kind: Kind, control_plane: &str) -> Result<Vec<Value>, Refused> {
    for version in kind.versions() {
        if !is_served(client, kind, version).await? {
            continue;
        }
        for _ in 0..RETRIES {
            match pages(client, kind, version, control_plane).await {
                Ok(items) => return Ok(items),
                // The version, or the kind, is not served.
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                // The list is too old to go on with.
                Err(kube::Error::Api(status)) if status.code == 410 => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                    return Err(Refused::Forbidden(status.message.clone()));
                }
                Err(error) => return Err(Refused::Failed(error.into())),
            }
        }
    }
    Ok(Vec::new())
}

/// Whether the cluster has the kind in that version, which anybody may ask. Without it, a caller with few rights could not
/// tell what is missing from what is forbidden.
async fn is_served(client: &Client, kind: Kind, version: &str) -> Result<bool, Refused> {
    let request = get(&root(kind, version)).map_err(|error| Refused::Failed(error.into()))?;
    match client.request::<Value>(request).await {
        Ok(known) => {
            let resources = known.get("resources").and_then(Value::as_array);
            let names = resources.into_iter().flatten().filter_map(|one| one.get("name"));
            Ok(names.into_iter().any(|name| name == kind.plural()))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        // The list itself will say why.
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Ok(true),
        Err(error) => Err(Refused::Failed(error.into())),
    }
}

fn root(kind: Kind, version: &str) -> String {
    match kind.group() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    }
}

async fn pages(client: &Client, kind: Kind, version: &str, control_plane: &str) -> kube::Result<Vec<Value>> {
    let base = path(kind, version, control_plane);
    let api_version = match kind.group() {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..MAX_PAGES {
        let mut page: Value = client
            .request(get(&format!("{base}limit={PAGE}{token}"))?)
            .await?;
        if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
            all.extend(
                items
                    .into_iter()
                    .filter_map(|item| complete(item, &api_version, kind)),
            );
        }
        match page.pointer("/metadata/continue").and_then(Value::as_str) {
            Some(next) if !next.is_empty() => token = format!("&continue={}", escaped(next)),
            _ => break,
        }
    }
    Ok(all)
}

/// The path of a list, ready for parameters. ConfigMaps are those of the control plane alone.
fn path(kind: Kind, version: &str, control_plane: &str) -> String {
    let root = root(kind, version);
    match kind {
        Kind::ConfigMap => format!("{root}/namespaces/{control_plane}/configmaps?"),
        Kind::Secret => format!("{root}/secrets?{SECRETS}&"),
        kind => format!("{root}/{}?", kind.plural()),
    }
}

/// An item of a list with the fields that lists leave out, and without those that nobody reads.
fn complete(mut item: Value, api_version: &str, kind: Kind) -> Option<Value> {
    let fields = item.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), json!(api_version));
    fields.insert("kind".to_owned(), json!(kind.as_str()));
    let meta = fields.get_mut("metadata")?.as_object_mut()?;
    meta.remove("managedFields");
    if let Some(Value::Object(annotations)) = meta.get_mut("annotations") {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default();
    (kind != Kind::ConfigMap || name.starts_with(CONFIG_MAPS)).then_some(item)
}

fn get(path: &str) -> kube::Result<http::Request<Vec<u8>>> {
    http::Request::get(path)
        .body(Vec::new())
        .map_err(kube::Error::HttpError)
}

/// A token that may hold any character.
fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

async fn require_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    match client
        .request::<Value>(get(&format!("/api/v1/namespaces/{}", escaped(name)))?)
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => Err(anyhow!("namespace {name:?} not found")),
        // Who may not look cannot be told.
        _ => Ok(()),
    }
}

/// The Services of each cluster of the mesh, when there are several.
async fn clusters(
    access: &Access,
    context: Option<&str>,
    own: &Read,
) -> anyhow::Result<std::collections::BTreeMap<String, Vec<Arc<Object>>>> {
    let mut clusters = std::collections::BTreeMap::new();
    for remote in &access.remotes {
        let (client, _) = connect(access, Some(remote))
            .await
            .with_context(|| format!("context {remote}"))?;
        let mut services = Cluster::default();
        match list(&client, Kind::Service, "").await {
            Ok(items) => services.add(Kind::Service, items),
            Err(Refused::Forbidden(reason)) => {
                eprintln!("argosy: context {remote}: services: {reason}; the cluster is not compared");
                continue;
            }
            Err(Refused::Failed(error)) => return Err(error.context(format!("context {remote}"))),
        }
        clusters.insert(remote.clone(), shared(services.read.objects));
    }
    if !clusters.is_empty() {
        let services = own.objects.iter().filter(|object| object.kind == Kind::Service);
        let name = context.unwrap_or("(current)").to_owned();
        clusters.insert(name, shared(services.cloned().collect()));
    }
    Ok(clusters)
}

fn shared(objects: Vec<Object>) -> Vec<Arc<Object>> {
    objects.into_iter().map(Arc::new).collect()
}

/// What an installation creates: group, resource, and whether it is in the control plane's namespace.
const CREATED: [(&str, &str, bool); 11] = [
    ("", "namespaces", false),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        false,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        false,
    ),
    ("rbac.authorization.k8s.io", "roles", true),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("", "configmaps", true),
    ("apps", "deployments", true),
];

/// What of [`CREATED`] the caller may not create.
async fn denied(client: &Client, namespace: &str) -> anyhow::Result<Vec<Denied>> {
    let mut denied = Vec::new();
    for (group, resource, namespaced) in CREATED {
        let place = if namespaced { namespace } else { "" };
        let attributes = json!({ "namespace": place, "verb": "create", "group": group, "version": "v1", "resource": resource });
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": attributes },
        });
        let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&review)?)?;
        let answer: Value = client
            .request(request)
            .await
            .context("asking for the caller's rights")?;
        if answer.pointer("/status/allowed") != Some(&Value::Bool(true)) {
            let reason = answer
                .pointer("/status/reason")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let full = if group.is_empty() {
                resource.to_owned()
            } else {
                format!("{resource}.{group}")
            };
            denied.push(Denied {
                resource: full,
                reason: if reason.is_empty() {
                    "the caller has no such right"
                } else {
                    reason
                }
                .to_owned(),
            });
        }
    }
    Ok(denied)
}
