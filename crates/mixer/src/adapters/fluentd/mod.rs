//! `fluentd`: log entries by the forward protocol, each batch acknowledged
//! (github.com/fluent/fluentd, "Forward Protocol Specification v1").

mod message;

use std::time::Duration;

use policy::{Fluentd, InstanceValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::dialer::{Dialer, Stream};
use super::{Batching, Fault, Kit};

/// Longest acknowledgement in bytes.
const MAX_ACK: usize = 1024;
/// Bytes that an entry is taken to have when batches are counted in entries.
const ENTRY: usize = 1024;

/// The adapter.
pub(super) struct Adapter {
    fluentd: Fluentd,
    dialer: Dialer,
    /// Kept from batch to batch; none after a failure.
    stream: Mutex<Option<Stream>>,
}

impl Adapter {
    /// Connects with the first batch.
    pub(super) fn new(fluentd: &Fluentd, kit: &Kit) -> Result<Self, String> {
        Ok(Self {
            fluentd: fluentd.clone(),
            dialer: Dialer::new(&fluentd.address, fluentd.tls.as_ref(), &[], kit)?,
            stream: Mutex::default(),
        })
    }

    async fn send(&self, message: &[u8], chunk: &str) -> std::io::Result<()> {
        let mut kept = self.stream.lock().await;
        // Taken out: a call that is dropped or fails halfway leaves no half-used connection behind.
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => self.dialer.connect().await?,
        };
        stream.write_all(message).await?;
        acknowledged(&mut stream, chunk).await?;
        *kept = Some(stream);
        Ok(())
    }
}

async fn acknowledged(stream: &mut Stream, chunk: &str) -> std::io::Result<()> {
    let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut answer = Vec::new();
    loop {
        if let Some(acknowledged) = message::acknowledged(&answer) {
            return match acknowledged == chunk {
                true => Ok(()),
                false => Err(invalid("another batch was acknowledged")),
            };
        }
        if answer.len() > MAX_ACK {
            return Err(invalid("the answer is no acknowledgement"));
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[tonic::async_trait]
impl super::Adapter for Adapter {
    fn batching(&self) -> Batching {
        Batching {
            queue: self.fluentd.queue,
            batch: (self.fluentd.batch / ENTRY).max(1),
            linger: Duration::from_nanos(self.fluentd.interval.unsigned_abs()),
            deadline: Duration::from_nanos(self.fluentd.timeout.unsigned_abs()),
        }
    }

    async fn report(&self, batch: &[InstanceValue]) -> Result<(), Fault> {
        for (tag, entries) in message::by_tag(batch) {
            let chunk = format!("{:032x}", rand::random::<u128>());
            let message = message::encode(&tag, &entries, &chunk, self.fluentd.integer_duration);
            let message = message.map_err(|error| Fault::Refused(error.to_string()))?;
            self.send(&message, &chunk)
                .await
                .map_err(|error| Fault::Away(format!("{}: {error}", self.fluentd.address)))?;
        }
        Ok(())
    }
}
