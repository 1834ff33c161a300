//! The HTTP client of adapters: no redirects, no proxies of the environment, bounded in time and size.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};

use super::Fault;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// A client whose calls end within `timeout`.
pub(super) fn client(timeout: Duration) -> Result<Client, String> {
    let client = Client::builder()
        // A redirect could lead to an address that nobody configured.
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT.min(timeout))
        .timeout(timeout)
        .user_agent("argosy-mixer")
        .build();
    client.map_err(|error| format!("no HTTP client: {error}"))
}

/// An answer of 2xx; anything else as a fault.
pub(super) fn accepted(response: Response) -> Result<Response, Fault> {
    let status = response.status();
    match status.as_u16() {
        200..300 => Ok(response),
        408 | 429 | 500.. => Err(Fault::Away(format!("status {status}"))),
        300..400 => Err(Fault::Refused(format!(
            "status {status}; redirects are not followed"
        ))),
        _ => Err(Fault::Refused(format!("status {status}"))),
    }
}

/// The body, if it is no longer than `most` bytes.
pub(super) async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| away(&error))? {
        if body.len() + chunk.len() > most {
            return Err(Fault::Refused(format!("the body is longer than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A failed call, with its causes: reqwest's own text names none.
pub(super) fn away(error: &reqwest::Error) -> Fault {
    Fault::Away(runtime::context::describe(error))
}
