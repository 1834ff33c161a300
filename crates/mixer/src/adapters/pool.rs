//! The threads that adapters run on: no request does, so an adapter that holds its thread holds no request.

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that wait for sockets.
const WORKERS: usize = 4;
/// Threads that may block or compute.
const BLOCKING: usize = 32;

/// The threads; there are none before the first adapter needs one.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Option<Runtime>>);

impl Pool {
    /// Where tasks are spawned.
    ///
    /// # Errors
    /// When the machine gives no threads.
    pub(crate) fn handle(&self) -> std::io::Result<Handle> {
        let mut runtime = self.0.lock();
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let started = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(BLOCKING)
            .thread_name("adapter")
            .enable_all()
            .build()?;
        let handle = started.handle().clone();
        *runtime = Some(started);
        Ok(handle)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.get_mut().take() {
            // Whoever drops it may be a task, which must not wait for threads.
            runtime.shutdown_background();
        }
    }
}
