//! What security policies decide for a request, as a function of the policies and the request alone. It is written from the
//! meaning that Istio's reference gives to PeerAuthentication, RequestAuthentication and AuthorizationPolicy, and knows nothing
//! of Envoy: `envoygen`'s tests hold what it says against what real Envoys do with the configuration that is generated.
//!
//! [`PolicySet::of`] says which policies a workload has, [`PolicySet::decide`] gives the [`Decision`].

mod compare;
mod decide;
mod path;
mod request;
mod rule;
mod set;
mod token;

pub use decide::{Decision, Verdict};
pub use path::normalized;
pub use request::{Http, Place, Request, Token};
pub use set::PolicySet;
