//! Choices of whoever reads configuration.

use crate::Limits;

/// How configuration is read and which rules hold where Istio's releases differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bounds on one file.
    pub limits: Limits,
    /// Whether a VirtualService may be without hosts and hold routes for another one, as since Istio 1.8; in Istio 1.4 it
    /// is an error.
    pub delegates: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            delegates: true,
        }
    }
}
