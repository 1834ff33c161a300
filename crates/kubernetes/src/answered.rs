//! Whether there is an API server: what a service waits for that starts while it is away.

use std::time::Duration;

use kube::Client;

/// Longest wait for one answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two questions: soon enough for a service that waits for nothing else.
const PAUSE: Duration = Duration::from_secs(1);

/// The API server does not answer.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// There is no connection, or it broke.
    #[error("the API server does not answer")]
    Failed(#[source] kube::Error),
    /// It took too long.
    #[error("the API server does not answer within {} s", DEADLINE.as_secs())]
    Late,
}

/// Returns when the API server has answered, with whatever. Until then it is asked once a second, and `tell` hears why there is no answer.
pub async fn answered(client: &Client, tell: impl Fn(&Silence)) {
    loop {
        match tokio::time::timeout(DEADLINE, client.apiserver_version()).await {
            // Who refuses or is not understood has answered.
            Ok(Ok(_) | Err(kube::Error::Api(_) | kube::Error::SerdeError(_))) => return,
            Ok(Err(error)) => tell(&Silence::Failed(error)),
            Err(_) => tell(&Silence::Late),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail loudly")]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn it_tells_why_until_there_is_an_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let told = Mutex::new(Vec::new());
        let asking = answered(&client, |why| {
            let source = std::error::Error::source(why).map(ToString::to_string);
            told.lock().unwrap().push((why.to_string(), source));
        });
        let waited = tokio::time::timeout(Duration::from_millis(1500), asking).await;
        assert!(waited.is_err(), "nobody can have answered");
        let told = told.into_inner().unwrap();
        let (why, source) = told.first().unwrap();
        assert_eq!(why, "the API server does not answer");
        assert!(source.is_some(), "{told:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_an_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no","reason":"Forbidden","code":403}"#;
            let length = body.len();
            write!(stream, "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(30), answered(&client, |_| {})).await;
        assert!(waited.is_ok());
        serving.join().unwrap();
    }
}
