//! `zipkin`: spans over HTTP.

use serde::Deserialize;

use super::params::Problem;
use super::{probability, url};

/// Parameters (adapter.zipkin.config).
#[derive(Clone, Debug, PartialEq)]
pub struct Zipkin {
    /// Where spans are posted: `http://HOST:9411/api/v2/spans`.
    pub url: String,
    /// The part of traces that is sent, 0 to 1.
    pub sampling: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    url: String,
    sample_probability: f64,
}

pub(super) fn read(params: &Params) -> Result<Zipkin, Problem> {
    Ok(Zipkin {
        url: url("url", &params.url)?,
        sampling: probability("sampleProbability", params.sample_probability)?,
    })
}
