//! Analysis of what the user's objects mean together: the messages of Istio's `istioctl analyze` (codes IST0001 to IST0177),
//! in our own words. An [`Analyzer`] is a function from a [`Set`] of objects to [`Message`]s, with the kinds that it reads
//! declared, so that a change reruns only what depends on it; [`run()`] runs them once and leaves out what annotations
//! suppress, an [`Engine`] again and again as objects change.
//!
//! Pure: it knows nothing of files, clusters or clocks; the time, which certificates are held against, is an argument, and
//! so are [`Facts`] about a cluster.

mod analyzer;
mod analyzers;
mod catalogue;
mod defaults;
mod engine;
mod facts;
mod hosts;
mod ledger;
mod listed;
mod message;
mod point;
mod run;
mod schema;
mod selector;
mod set;
mod store;
mod term;
mod workload;

pub use analyzer::{Analyzer, Report};
pub use analyzers::annotation_values::check as annotation_value;
pub use analyzers::{ALL, EXTRA, PRECHECK, find};
pub use catalogue::{Code, docs};
pub use defaults::defaults;
pub use engine::{Analysis, Engine, Input};
pub use facts::{Denied, Facts};
pub use message::{Message, level, place};
pub use point::point;
pub use run::{SUPPRESS, dependent, is_suppressed, run};
pub use schema::of_findings;
pub use set::Set;
pub use store::Store;
