//! The forms in which callers other than Envoy's own APIs tell of requests: the compressed attributes of Istio's Mixer API and
//! what an answer says of those that it depends on, formatted text, and counters.

pub(crate) mod decode;
pub(crate) mod described;
pub(crate) mod dictionary;
pub(crate) mod formatted;
#[cfg(test)]
mod properties;
pub(crate) mod references;
pub(crate) mod sent;
pub(crate) mod series;
