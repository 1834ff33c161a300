//! Fetching from real servers on loopback addresses, with and without TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State as Held;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use config::Spec;

use super::*;

const KEYS: &str = r#"{"keys":[{"kty":"EC","kid":"a","x":"AQ","y":"AQ"}]}"#;
const OTHER: &str = r#"{"keys":[{"kty":"EC","kid":"b","x":"AQ","y":"AQ"}]}"#;

/// Answers by path; a status other than 200 redirects to its text.
type Pages = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

async fn page(Held(pages): Held<Pages>, uri: Uri) -> Response {
    let found = pages.lock().unwrap().get(uri.path()).cloned();
    let (status, text) = found.unwrap_or((404, String::new()));
    let status = StatusCode::from_u16(status).unwrap();
    match status.is_redirection() {
        true => (status, [(header::LOCATION, text)]).into_response(),
        false => (status, text).into_response(),
    }
}

/// A server, with its address and the pages that it answers.
async fn server() -> (SocketAddr, Pages) {
    let pages = Pages::default();
    let app = Router::new().fallback(page).with_state(pages.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, pages)
}

fn set(pages: &Pages, path: &str, status: u16, text: &str) {
    pages
        .lock()
        .unwrap()
        .insert(path.to_owned(), (status, text.to_owned()));
}

fn loopback() -> Vec<IpNet> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

fn source(issuer: &str, uri: &str) -> Source {
    Source {
        issuer: issuer.to_owned(),
        uri: uri.to_owned(),
        timeout: Duration::from_secs(5),
    }
}

async fn fetch(allowed: &[IpNet], issuer: &str, uri: &str) -> Result<String, String> {
    let fetcher = Fetcher::new(allowed, None).unwrap();
    let fetched = fetcher.fetch(&source(issuer, uri)).await;
    fetched
        .map(|keys| keys.to_string())
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn keys_come_from_a_uri_or_from_where_the_issuer_says() {
    let (address, pages) = server().await;
    let issuer = format!("http://{address}/realm");
    set(&pages, "/keys", 200, KEYS);
    let described = format!(r#"{{"issuer":"{issuer}","jwks_uri":"http://{address}/keys"}}"#);
    set(&pages, "/realm/.well-known/openid-configuration", 200, &described);
    let all = loopback();
    assert_eq!(
        fetch(&all, "i", &format!("http://{address}/keys")).await.unwrap(),
        KEYS
    );
    assert_eq!(fetch(&all, &issuer, "").await.unwrap(), KEYS);
    set(
        &pages,
        "/realm/.well-known/openid-configuration",
        200,
        &described.replace("realm", "other"),
    );
    assert!(
        fetch(&all, &issuer, "")
            .await
            .unwrap_err()
            .contains("another issuer")
    );
}

#[tokio::test]
async fn istio_security_2026_003_no_private_addresses_and_no_redirects() {
    let (address, pages) = server().await;
    let url = format!("http://{address}/keys");
    set(&pages, "/keys", 200, KEYS);
    let refused = fetch(&[], "i", &url).await.unwrap_err();
    assert!(refused.contains("loopback"), "{refused}");
    let by_name = format!("http://localhost:{}/keys", address.port());
    let refused = fetch(&[], "i", &by_name).await.unwrap_err();
    assert!(refused.contains("loopback"), "{refused}");
    // An issuer that is public may not point inside either: the address that it names is checked by itself.
    let written = format!("http://0x7f.1:{}/keys", address.port());
    assert!(fetch(&[], "i", &written).await.unwrap_err().contains("loopback"));
    for url in ["file:///etc/passwd", "gopher://127.0.0.1/", "http://"] {
        assert!(fetch(&[], "i", url).await.is_err(), "{url}");
    }
    set(&pages, "/moved", 302, &url);
    let refused = fetch(&loopback(), "i", &format!("http://{address}/moved"))
        .await
        .unwrap_err();
    assert!(
        refused.contains("302") && refused.contains("not followed"),
        "{refused}"
    );
}

#[tokio::test]
async fn answers_are_bounded() {
    let (address, pages) = server().await;
    let url = format!("http://{address}/keys");
    set(&pages, "/keys", 200, &" ".repeat((1 << 20) + 1));
    assert!(
        fetch(&loopback(), "i", &url)
            .await
            .unwrap_err()
            .contains("more than")
    );
    set(&pages, "/keys", 500, "");
    assert!(
        fetch(&loopback(), "i", &url)
            .await
            .unwrap_err()
            .contains("answers 500")
    );
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = source("i", &format!("http://{}/", silent.local_addr().unwrap()));
    slow.timeout = Duration::from_millis(50);
    let error = Fetcher::new(&loopback(), None)
        .unwrap()
        .fetch(&slow)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
}

#[tokio::test]
async fn certificates_are_verified() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let roots = dir.path().join("ca.pem");
    std::fs::write(&roots, key.cert.pem()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut head = [0; 4096];
            _ = stream.read(&mut head).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{KEYS}", KEYS.len());
            _ = stream.write_all(answer.as_bytes()).await;
            _ = stream.shutdown().await;
        }
    });
    let allowed = [loopback(), vec!["::1/128".parse().unwrap()]].concat();
    let source = source("i", &format!("https://localhost:{port}/keys"));
    let trusting = Fetcher::new(&allowed, Some(&roots)).unwrap();
    assert_eq!(&*trusting.fetch(&source).await.unwrap(), KEYS);
    let strict = Fetcher::new(&allowed, None).unwrap();
    let error = strict.fetch(&source).await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

/// A state with one RequestAuthentication for a URI.
fn state(uri: &str) -> Option<Arc<State>> {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: t, namespace: shop}}\nspec: {{jwtRules: [{{issuer: i, jwksUri: '{uri}'}}]}}\n"
    );
    let parsed = config::parse("x.yaml", text.as_bytes(), "default");
    assert!(
        !parsed.findings.iter().any(config::Finding::is_error),
        "{:?}",
        parsed.findings
    );
    Some(Arc::new(State {
        objects: Arc::new(parsed.objects.into_iter().map(Arc::new).collect()),
        ..State::default()
    }))
}

fn served_keys(state: Option<&State>) -> (String, String, usize) {
    let state = state.unwrap();
    let Spec::RequestAuthentication(spec) = &state.objects[0].spec else {
        panic!()
    };
    let rule = &spec.jwt_rules[0];
    (rule.jwks.clone(), rule.jwks_uri.clone(), state.findings.len())
}

/// A Galley's part that fetches.
struct Running {
    states: watch::Sender<Option<Arc<State>>>,
    served: watch::Receiver<Option<Arc<State>>>,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Running {
    fn start(args: &Args, state_dir: &Path) -> Self {
        let metrics = Metrics::new();
        let jwks = Jwks::new(args, Some(state_dir), &metrics).unwrap();
        let (states, merged) = watch::channel(None);
        let (sender, served) = watch::channel(None);
        let shutdown = CancellationToken::new();
        tokio::spawn(jwks.run(merged, sender, shutdown.clone()));
        Self {
            states,
            served,
            metrics,
            shutdown,
        }
    }

    async fn until(&mut self, is: impl Fn(&(String, String, usize)) -> bool) -> (String, String, usize) {
        let wait = self
            .served
            .wait_for(|s| s.is_some() && is(&served_keys(s.as_deref())));
        let found = tokio::time::timeout(Duration::from_secs(20), wait).await;
        served_keys(found.expect("in time").unwrap().as_deref())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn istio_security_2026_001_an_issuer_that_is_away_has_its_own_last_keys_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("state");
    let (address, pages) = server().await;
    let uri = format!("http://{address}/keys");
    let args = Args {
        allow_private: loopback(),
        refresh: 1,
        ..Args::default()
    };
    let mut galley = Running::start(&args, &kept);
    galley.states.send_replace(state(&uri));
    let first = galley.until(|seen| seen.2 == 1).await;
    assert_eq!(
        first,
        (String::new(), uri.clone(), 1),
        "no keys, and it is said why"
    );
    assert!(galley.metrics.encode().contains("galley_jwks_missing 1"));
    set(&pages, "/keys", 200, KEYS);
    assert_eq!(
        galley.until(|seen| !seen.0.is_empty()).await,
        (KEYS.to_owned(), String::new(), 0)
    );
    set(&pages, "/keys", 200, OTHER);
    assert_eq!(
        galley.until(|seen| seen.0 != KEYS).await.0,
        OTHER,
        "keys are rotated"
    );
    set(&pages, "/keys", 500, "");
    let failing = galley.until(|seen| seen.2 == 1).await;
    assert_eq!(
        failing,
        (OTHER.to_owned(), String::new(), 1),
        "the last ones stay, and it is said"
    );
    drop(galley);
    let mut again = Running::start(&args, &kept);
    again.states.send_replace(state(&uri));
    assert_eq!(again.until(|_| true).await.0, OTHER, "over a restart, at once");
    again
        .states
        .send_replace(state(&format!("http://{address}/elsewhere")));
    assert_eq!(
        again.until(|seen| seen.2 == 1).await.0,
        "",
        "keys of one place are none of another"
    );
}

#[tokio::test]
async fn a_state_without_uris_goes_through_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let mut galley = Running::start(&Args::default(), dir.path());
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {ports: [{name: http, port: 80}]}\n";
    let objects = config::parse("x.yaml", text.as_bytes(), "default").objects;
    let state = Arc::new(State {
        objects: Arc::new(objects.into_iter().map(Arc::new).collect()),
        ..State::default()
    });
    galley.states.send_replace(Some(state.clone()));
    let served = galley.served.wait_for(Option::is_some).await.unwrap().clone();
    assert!(Arc::ptr_eq(&served.unwrap(), &state));
}
