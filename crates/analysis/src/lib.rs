//! Analysis of what the user's objects mean together: the messages of Istio's `istioctl analyze` (codes IST0002 to IST0177),
//! in our own words. An [`Analyzer`] is a function from a [`Set`] of objects to [`Message`]s, with the kinds that it reads
//! declared, so that a change reruns only what depends on it; [`run()`] runs them and leaves out what annotations suppress.
//!
//! Pure: it knows nothing of files, clusters or clocks; the time, which certificates are held against, is an argument.

mod analyzer;
mod analyzers;
mod catalogue;
mod defaults;
mod hosts;
mod message;
mod run;
mod schema;
mod selector;
mod set;
mod workload;

pub use analyzer::{Analyzer, Report};
pub use analyzers::{ALL, EXTRA, find};
pub use catalogue::Code;
pub use defaults::defaults;
pub use message::Message;
pub use run::{dependent, run};
pub use schema::of_findings;
pub use set::Set;
