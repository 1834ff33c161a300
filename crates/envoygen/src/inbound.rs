//! What a sidecar needs to be reached: the inbound part of its tables.

use crate::generator::Generator;
use crate::output::Output;
use crate::scope::Inbound;

pub(crate) fn generate(_generator: &Generator, _scope: &Inbound) -> Output {
    Output::default()
}
