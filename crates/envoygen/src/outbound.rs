//! What a proxy needs to reach others: the outbound part of its tables.

use crate::generator::Generator;
use crate::output::Output;
use crate::scope::Outbound;

pub(crate) fn generate(_generator: &Generator, _scope: &Outbound) -> Output {
    Output::default().sorted()
}
