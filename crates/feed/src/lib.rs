//! Galley's feed: configuration objects over delta xDS. What Galley serves ([`table`]) and what a subscriber makes of it
//! ([`follow`]).
//!
//! It does not know what the objects mean, nor where Galley got them.

pub mod distribution;
mod follow;
mod message;
mod store;
mod tables;

pub use follow::{FollowError, Options, follow};
pub use message::{DecodeError, decode, decode_all, encode, encode_all, is_read, table, type_url};
pub use store::{State, Store};
pub use tables::Tables;
