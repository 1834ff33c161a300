//! The way in, what is refused at the way in to the cluster, and what an object's status says.

use std::time::Duration;

use anyhow::Context;
use mesh::Seen;
use testkit::wait::until;

use crate::day::{BOUND, Day, SHOP};

const BROKEN: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog}
spec:
  hosts: [catalog]
  http: [{match: [{uri: {regex: '('}}], route: [{destination: {host: catalog}}]}]
";
const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example], tls: {mode: SIMPLE, credentialName: shop-tls}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ingress}
spec:
  hosts: [shop.example]
  gateways: [shop]
  http: [{route: [{destination: {host: frontend, port: {number: 8080}}}]}]
";

impl Day {
    /// Once Galley has its certificate, it refuses what is wrong.
    pub(crate) async fn refusal(&self) -> anyhow::Result<Seen> {
        let look = || {
            let refused = match self.cluster.apply(SHOP, BROKEN) {
                Ok(said) => Err(anyhow::anyhow!("taken: {said}")),
                Err(error) => Ok(format!("{error:#}")),
            };
            std::future::ready(refused)
        };
        let (text, _) = until("a refusal", Duration::from_secs(60), look).await?;
        let named = text.contains("validation.argosy.io") && text.contains("regex");
        Ok(Seen::new(
            named,
            text.lines().last().unwrap_or_default().to_owned(),
        ))
    }

    pub(crate) async fn ingress(&self) -> anyhow::Result<Seen> {
        let cluster = &self.cluster;
        cluster.helm(&[
            "upgrade",
            "--install",
            "istio-ingressgateway",
            "helm/gateway",
            "--namespace",
            "istio-ingress",
            "--create-namespace",
            "--values",
            "tests/cluster/gateway.yaml",
        ])?;
        cluster.rolled_out("istio-ingress", BOUND)?;
        let dir = std::env::temp_dir().join(format!("argosy-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let (key, certificate) = (dir.join("key.pem"), dir.join("cert.pem"));
        let (key, certificate) = (
            key.to_str().context("path")?,
            certificate.to_str().context("path")?,
        );
        cluster.run(&[
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=shop.example",
            "-addext",
            "subjectAltName=DNS:shop.example",
            "-keyout",
            key,
            "-out",
            certificate,
        ])?;
        cluster.kubectl(&[
            "create",
            "secret",
            "tls",
            "shop-tls",
            "--namespace",
            "istio-ingress",
            "--key",
            key,
            "--cert",
            certificate,
        ])?;
        cluster.apply(SHOP, GATEWAY)?;
        let address = format!(
            "shop.example:443:{}",
            self.ip("istio-ingressgateway", "istio-ingress")?
        );
        let look = || {
            std::future::ready(cluster.fetch(
                "https://shop.example/",
                &["--resolve", &address, "--cacert", certificate],
            ))
        };
        let got = until("HTTPS through the gateway", Duration::from_secs(60), look).await;
        std::fs::remove_dir_all(&dir)?;
        let (answer, took) = got?;
        Ok(Seen::new(
            answer.contains("frontend"),
            format!(
                "200 by its Secret's certificate after {:.1} s",
                took.as_secs_f32()
            ),
        ))
    }
}
