//! How far objects have come among proxies, as Pilots tell it to Galley: messages and service of `argosy.feed.v1`, generated
//! from `proto/`.

pub use proto::feed::distribution_client::DistributionClient;
pub use proto::feed::distribution_server::{Distribution, DistributionServer};
pub use proto::feed::{DistributionReply, DistributionReport, ObjectName, ObjectProgress};
