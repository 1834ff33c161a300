//! The way in, what is refused at the way in to the cluster, and what an object's status says.

use std::time::Duration;

use anyhow::Context;
use mesh::Seen;
use testkit::wait::{until, until_blocking};

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

const KUBERNETES_INGRESS: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: istio}
spec: {controller: istio.io/ingress-controller}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  ingressClassName: istio
  rules:
  - host: shop.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: frontend, port: {number: 8080}}}}]}
";
/// The gateway's namespace.
pub(crate) const INGRESS: &str = "istio-ingress";

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
            INGRESS,
            "--create-namespace",
            "--values",
            "tests/cluster/gateway.yaml",
        ])?;
        cluster.rolled_out(INGRESS, BOUND)?;
        let certificate = self.new_certificate()?;
        cluster.apply(SHOP, GATEWAY)?;
        let address = self.at_gateway(443)?;
        let look = || {
            std::future::ready(cluster.fetch(
                "https://shop.example/",
                &["--resolve", &address, "--cacert", &certificate],
            ))
        };
        let (answer, took) = until("HTTPS through the gateway", Duration::from_secs(60), look).await?;
        Ok(Seen::new(
            answer.contains("frontend"),
            format!(
                "200 by its Secret's certificate after {:.1} s",
                took.as_secs_f32()
            ),
        ))
    }

    /// `shop.example` at a port of the gateway, as curl takes it.
    pub(crate) fn at_gateway(&self, port: u16) -> anyhow::Result<String> {
        let address = self.ip("istio-ingressgateway", INGRESS)?;
        Ok(format!("shop.example:{port}:{address}"))
    }

    /// Puts a new key and certificate into the gateway's Secret; the certificate's file.
    fn new_certificate(&self) -> anyhow::Result<String> {
        let dir = std::env::temp_dir().join(format!("argosy-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let dir = dir.to_str().context("path")?;
        self.cluster.shell(&format!(
            "cd {dir}
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=shop.example \\
               -addext subjectAltName=DNS:shop.example -keyout key.pem -out cert.pem
             kubectl create secret tls shop-tls --namespace {INGRESS} --key key.pem --cert cert.pem --dry-run=client --output yaml |
               kubectl apply --filename -"
        ))?;
        Ok(format!("{dir}/cert.pem"))
    }

    /// An object of Kubernetes' own, at the gateway's port for HTTP.
    pub(crate) async fn kubernetes_ingress(&self) -> anyhow::Result<Seen> {
        self.cluster.apply(SHOP, KUBERNETES_INGRESS)?;
        let address = self.at_gateway(80)?;
        let look = || {
            let fetched = self
                .cluster
                .fetch("http://shop.example/", &["--resolve", &address]);
            std::future::ready(fetched)
        };
        let (answer, took) = until("the Ingress", Duration::from_secs(60), look).await?;
        let text = format!("200 after {:.1} s", took.as_secs_f32());
        Ok(Seen::new(answer.contains("frontend"), text))
    }

    /// While requests come in by HTTPS, the certificate is replaced, and then all of the gateway's pods are.
    pub(crate) fn gateway_renewed(&self) -> anyhow::Result<Seen> {
        let address = self.at_gateway(443)?;
        let url = "https://shop.example/";
        let load = self.fetches(url, &["--resolve", &address, "--insecure"]);
        self.under(vec![load], || {
            let certificate = self.new_certificate()?;
            let trusting = ["--resolve", &address, "--cacert", &certificate];
            let started = std::time::Instant::now();
            until_blocking("the new certificate", BOUND, || {
                self.cluster.fetch(url, &trusting).map(drop)
            })?;
            let took = started.elapsed().as_secs_f32();
            self.cluster
                .kubectl(&["rollout", "restart", "deployment", "--namespace", INGRESS])?;
            self.cluster.rolled_out(INGRESS, BOUND)?;
            Ok(format!("the new certificate after {took:.1} s"))
        })
    }
}
