//! The application's own metrics, for the agent's page: Prometheus scrapes one page a pod, and the application's would be behind
//! mutual TLS. What to scrape is the pod's `prometheus.io` annotations, as the injector wrote them down
//! (`ISTIO_PROMETHEUS_ANNOTATIONS`).

use std::time::Duration;

use serde::Deserialize;

/// Longest wait for the application; Prometheus' own default is 10 s for the whole page.
const PATIENCE: Duration = Duration::from_secs(8);
/// Largest page of the application in bytes.
const LARGEST: usize = 32 << 20;
/// Prometheus' text format; OpenMetrics ends with a mark that would cut the merged page.
const ACCEPT: &str = "text/plain;version=0.0.4;q=1,*/*;q=0.1";

/// The injector's record is not what injectors write.
#[derive(Debug, thiserror::Error)]
#[error("ISTIO_PROMETHEUS_ANNOTATIONS is not what the injector writes ({0}); have the pod made anew")]
pub struct RecordError(String);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Record {
    scrape: String,
    path: String,
    port: String,
}

/// Scrapes the application. Clones share connections.
#[derive(Debug, Clone)]
pub struct Scraper {
    url: String,
    client: reqwest::Client,
}

impl Scraper {
    /// A scraper as the record says; `None` where it says that there is nothing to scrape.
    ///
    /// # Errors
    /// When the record is not what the injector writes.
    pub fn read(record: &str) -> Result<Option<Self>, RecordError> {
        let wrong = |error: &dyn std::error::Error| RecordError(error.to_string());
        if record.trim().is_empty() {
            return Ok(None);
        }
        let record: Record = serde_json::from_str(record).map_err(|error| wrong(&error))?;
        if !["", "true", "True", "TRUE", "t", "T", "1"].contains(&record.scrape.as_str()) {
            return Ok(None);
        }
        let port: u16 = match record.port.as_str() {
            "" => 80,
            port => port
                .parse()
                .map_err(|_| RecordError(format!("{port:?} is no port")))?,
        };
        let path = match record.path.as_str() {
            "" => "/metrics",
            path => path,
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        Ok(Some(Self {
            url: format!("http://127.0.0.1:{port}{slash}{path}"),
            client: client.map_err(|error| wrong(&error))?,
        }))
    }

    /// The application's page.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn scrape(&self) -> Result<String, String> {
        let told = |error: reqwest::Error| runtime::context::describe(&error);
        let request = self.client.get(&self.url).header(http::header::ACCEPT, ACCEPT);
        let mut response = request.send().await.map_err(told)?;
        if !response.status().is_success() {
            return Err(format!("{} answered {}", self.url, response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(format!("{} is larger than {LARGEST} bytes", self.url));
            }
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(body).map_err(|_| format!("{} is no text", self.url))?;
        Ok(without_end(text))
    }
}

/// Applications that know OpenMetrics alone end their page with a mark, behind which nothing may come.
fn without_end(mut text: String) -> String {
    if let Some(rest) = text.trim_end().strip_suffix("# EOF") {
        text.truncate(rest.len());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_applications_page_is_read_by_its_annotations() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/m", get(|| async { "app_up 1\n# EOF\n" }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let scraper = |path: &str| {
            let record = format!(r#"{{"scrape": "true", "path": "{path}", "port": "{port}"}}"#);
            Scraper::read(&record).unwrap().unwrap()
        };
        assert_eq!(scraper("m").scrape().await.unwrap(), "app_up 1\n");
        let error = scraper("/other").scrape().await.unwrap_err();
        assert!(error.contains("404"), "{error}");
    }

    #[test]
    fn a_record_says_what_to_scrape() {
        let url = |record: &str| Scraper::read(record).unwrap().map(|scraper| scraper.url);
        assert_eq!(url(""), None);
        assert_eq!(url(r#"{"scrape": "false"}"#), None);
        assert_eq!(url(r#"{"scrape": ""}"#).unwrap(), "http://127.0.0.1:80/metrics");
        assert!(Scraper::read(r#"{"port": "x"}"#).is_err());
    }
}
