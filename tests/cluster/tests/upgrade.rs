//! What an upgrade of the charts leaves as it is, with a real API server and without Galley, who would set it again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::path::Path;
use std::process::Command;

use cluster::{helm, root};
use serde_json::Value;
use testkit::kubernetes::ApiServer;

const CONFIGURATION: &str = "argosy-galley";
/// What Galley applies once it can judge (docs/galley.md).
const RELIES: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: argosy-galley}
webhooks:
- {name: validation.argosy.io, failurePolicy: Fail}
";

struct Operator<'a> {
    kubeconfig: &'a Path,
    kubectl: String,
}

impl Operator<'_> {
    fn helm(&self, command: &str, timeout: u8) {
        let mut program = Command::new(helm::program().unwrap());
        program
            .env("KUBECONFIG", self.kubeconfig)
            .args([command, "galley", "helm/galley", "--namespace", "argosy-system"])
            .arg(format!("--set=webhook.timeoutSeconds={timeout}"));
        if command == "install" {
            program.arg("--create-namespace");
        }
        helm::output(&mut program).unwrap();
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let mut program = Command::new(&self.kubectl);
        let program = program.env("KUBECONFIG", self.kubeconfig).args(arguments);
        helm::output(program).unwrap()
    }

    /// The webhook's failure policy and its bound on time.
    fn webhook(&self) -> (String, u64) {
        let text = self.kubectl(&["get", "validatingwebhookconfiguration", CONFIGURATION, "-o=json"]);
        let configuration: Value = serde_json::from_str(&text).unwrap();
        let field = |name: &str| &configuration["webhooks"][0][name];
        let policy = field("failurePolicy").as_str().unwrap().to_owned();
        (policy, field("timeoutSeconds").as_u64().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_leaves_the_failure_policy_that_galley_has_set() {
    if !ApiServer::available().await.unwrap() {
        return;
    }
    let api = ApiServer::start().await.unwrap();
    let mut script = Command::new(root().join("scripts/fetch-kubernetes"));
    let kubectl = helm::output(script.arg("kubectl")).unwrap().trim().to_owned();
    let kubeconfig = api.kubeconfig();
    let operator = Operator {
        kubeconfig: &kubeconfig,
        kubectl,
    };
    operator.helm("install", 5);
    assert_eq!(operator.webhook(), ("Ignore".to_owned(), 5));
    let file = manifest(&api);
    operator.kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=argosy-galley-webhook",
        "--filename",
        &file,
    ]);
    assert_eq!(operator.webhook(), ("Fail".to_owned(), 5));
    operator.helm("upgrade", 7);
    assert_eq!(operator.webhook(), ("Fail".to_owned(), 7));
}

/// The file to apply, in the API server's own folder, with which it goes.
fn manifest(api: &ApiServer) -> String {
    let path = api.kubeconfig().with_file_name("relies.yaml");
    std::fs::write(&path, RELIES).unwrap();
    path.display().to_string()
}
