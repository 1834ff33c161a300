//! One HTTP/1.1 request over a connection that is there already.

use anyhow::{Context, Result, bail};
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Largest page, in bytes.
const MAX_PAGE: usize = 256 << 20;
/// So much of a refusal is shown, in characters.
const MAX_WORDS: usize = 300;

/// Asks for a page as a caller on the same machine would: admin servers refuse other names of hosts.
pub(super) async fn get<S>(stream: S, path: &str) -> Result<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await.context("no answer")?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_PAGE).collect().await;
    connection.abort();
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    let body = body.to_bytes();
    if !status.is_success() {
        let words: String = String::from_utf8_lossy(&body).chars().take(MAX_WORDS).collect();
        bail!("answers {status}: {}", words.trim());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn check(answer: &'static str, expected: Result<&str, &str>) {
        let (near, mut far) = tokio::io::duplex(4096);
        let server = tokio::spawn(async move {
            let mut asked = vec![0; 4096];
            let read = far.read(&mut asked).await.unwrap_or_default();
            far.write_all(answer.as_bytes()).await.ok();
            String::from_utf8_lossy(asked.get(..read).unwrap_or_default()).to_lowercase()
        });
        let got = get(near, "/page?x=1").await;
        let asked = server.await.expect("the server ends");
        assert!(
            asked.starts_with("get /page?x=1 http/1.1\r\n") && asked.contains("host: localhost"),
            "{asked}"
        );
        match (got, expected) {
            (Ok(body), Ok(text)) => assert_eq!(body, text),
            (Err(error), Err(words)) => assert!(format!("{error:#}").contains(words), "{error:#}"),
            (got, _) => panic!("{got:?}, not {expected:?}"),
        }
    }

    #[tokio::test]
    async fn a_page_is_its_body_and_a_refusal_its_words() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Ok("{}")).await;
        let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nno!\n";
        check(refusal, Err("answers 403 Forbidden: no!")).await;
        check("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", Err("broke off")).await;
        check("", Err("no answer")).await;
    }
}
