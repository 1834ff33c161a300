//! Asks services' readiness pages.

use std::time::Duration;

use anyhow::Context;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::judge::{Row, State};

/// How long a page may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Largest page that is read, in bytes.
const MAX_PAGE: usize = 64 << 10;

/// One row for each page.
pub(super) async fn ask(pages: &[Uri]) -> Vec<Row> {
    let mut rows = Vec::new();
    for page in pages {
        let (state, message) = match get(page).await {
            Ok((200, _)) => (State::Well, "ready".to_owned()),
            Ok((status, text)) => (State::Wrong, format!("answers {status}: {}", text.trim())),
            Err(error) => (State::Wrong, format!("{error:#}")),
        };
        rows.push(Row {
            object: page.to_string(),
            state,
            message,
        });
    }
    rows
}

async fn get(page: &Uri) -> anyhow::Result<(u16, String)> {
    let request = http::Request::get(page).body(Empty::<Bytes>::new())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let exchange = async {
        let answer = client.request(request).await.context("no answer")?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_PAGE).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .with_context(|| format!("no answer within {DEADLINE:?}"))?
}
