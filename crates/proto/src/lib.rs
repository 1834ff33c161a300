//! The messages and services of Argosy's own wire: generated from `proto/` at build time.
//!
//! It knows nothing of Envoy's messages, which come from `envoy-types`, and holds no logic.

/// What Galley distributes (`argosy.feed.v1`).
pub mod feed {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("argosy.feed.v1");
}

/// The certificate signing API of Istio's agents (`istio.v1.auth`).
pub mod ca {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("istio.v1.auth");
}

/// Mixer's API as Istio 1.4 has it (`istio.mixer.v1`).
pub mod mixer {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("istio.mixer.v1");
}

/// How Citadel tells of the mesh's roots, and hands out credentials (`argosy.ca.v1`).
pub mod trust {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("argosy.ca.v1");
}

/// The sample application's gRPC face (`argosy.sample.v1`).
pub mod sample {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("argosy.sample.v1");
}
