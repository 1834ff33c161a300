//! Gateway API's kinds of release 1.6 (gateway.networking.k8s.io), as input. They are not served: whoever binds one to the
//! mesh or to its class is told so (see [`unserved`]).

mod filter;
mod gateway;
mod policy;
mod route;
mod unserved;

pub use filter::*;
pub use gateway::*;
pub use policy::*;
pub use route::*;
pub use unserved::{CLASSES, CONTROLLERS, unserved};
pub(crate) use unserved::{NO_EFFECT, is_own_class, is_own_controller};
