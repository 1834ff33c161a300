//! The sidecar injector: what becomes of a pod that asks for a proxy. A pure function of the pod, its namespace and the
//! settings ([`inject`]); `argosy inject` uses it on files, [`webhook`] on pods that are made.
//!
//! Labels, annotations and container names are Istio's, so that pods, dashboards and habits carry over.

pub mod decide;
pub mod documents;
mod inject;
mod merge;
mod metrics;
pub mod names;
mod owner;
pub mod probes;
pub mod proxy_config;
pub mod settings;
mod template;
pub mod webhook;
mod wishes;

pub use decide::{Decision, Skipped};
pub use inject::{Injected, Request, inject, patch};
pub use settings::Settings;
pub use webhook::{Args, run};
pub use wishes::{Interception, WishError};

/// Why a pod that asks for a proxy cannot be given one. The pod is refused: it must not run outside of the mesh unseen.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// Annotations have values that mean nothing.
    #[error("{}", wishes::list(.0))]
    Annotations(Vec<WishError>),
    /// `inject.istio.io/templates` names something that is not there.
    #[error(
        "annotation {}: there is no template {name:?}; there are {known}",
        names::TEMPLATES
    )]
    UnknownTemplate {
        /// What was asked for.
        name: String,
        /// What there is, with commas.
        known: String,
    },
    /// A template of the settings is no pod.
    #[error("the settings' template {name:?} is no part of a pod: {error}")]
    BrokenTemplate {
        /// The template's name.
        name: String,
        /// Where it breaks off.
        error: serde_json::Error,
    },
    /// A pod that was injected before says so in words that are not ours.
    #[error("annotation {name} is not what injection writes ({error}); remove it")]
    BrokenRecord {
        /// The annotation.
        name: &'static str,
        /// Where it breaks off.
        error: serde_json::Error,
    },
    /// The pod does not become JSON; cannot happen with a pod that was read from it.
    #[error("the pod cannot be written as JSON: {0}")]
    Unwritable(#[from] serde_json::Error),
}
