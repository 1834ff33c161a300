//! `stdio`: log entries, metrics and edges as lines on a standard stream or in a file.

mod file;
mod line;

use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use policy::{InstanceValue, Stdio, Stream};

use super::{Fault, Kit};
use file::Files;

/// The adapter.
pub(super) struct Adapter {
    stdio: Stdio,
    sink: Arc<Mutex<Sink>>,
}

enum Sink {
    Stdout,
    Stderr,
    Files(Files),
}

impl Adapter {
    /// Opens the file, if there is one.
    pub(super) fn new(stdio: &Stdio, kit: &Kit) -> Result<Self, String> {
        let (path, rotation) = match &stdio.stream {
            Stream::Stdout => return Ok(Self::with(stdio, Sink::Stdout)),
            Stream::Stderr => return Ok(Self::with(stdio, Sink::Stderr)),
            Stream::File(path) => (path, None),
            Stream::RotatedFile(path, rotation) => (path, Some(*rotation)),
        };
        let folder = kit.files.as_deref().ok_or(
            "outputPath: Mixer has no folder for handlers' files; start it with --handler-files FOLDER",
        )?;
        // An absolute path means the same below the folder: handlers choose no other place of the machine.
        let path = folder.join(path.trim_start_matches('/'));
        let files = Files::open(path.clone(), rotation, SystemTime::now());
        let files = files.map_err(|error| format!("outputPath: {}: {error}", path.display()))?;
        Ok(Self::with(stdio, Sink::Files(files)))
    }

    fn with(stdio: &Stdio, sink: Sink) -> Self {
        Self {
            stdio: stdio.clone(),
            sink: Arc::new(Mutex::new(sink)),
        }
    }
}

#[tonic::async_trait]
impl super::Adapter for Adapter {
    async fn report(&self, batch: &[InstanceValue]) -> Result<(), Fault> {
        let now = SystemTime::now();
        let mut text = String::new();
        for instance in batch {
            line::write(&mut text, &self.stdio, instance, now);
        }
        let sink = self.sink.clone();
        let written = tokio::task::spawn_blocking(move || {
            // A reader that hangs holds this lock and one thread, not one more for each attempt.
            let mut sink = sink
                .try_lock()
                .ok_or_else(|| Fault::Away("the last lines are still being written".to_owned()))?;
            sink.write(text.as_bytes(), now)
                .map_err(|error| Fault::Away(error.to_string()))
        });
        written.await.map_err(|_| Fault::Panicked)?
    }
}

impl Sink {
    fn write(&mut self, text: &[u8], now: SystemTime) -> std::io::Result<()> {
        fn all(mut stream: impl Write, text: &[u8]) -> std::io::Result<()> {
            stream.write_all(text)?;
            stream.flush()
        }
        match self {
            Self::Stdout => all(std::io::stdout().lock(), text),
            Self::Stderr => all(std::io::stderr().lock(), text),
            Self::Files(files) => files.write(text, now),
        }
    }
}
