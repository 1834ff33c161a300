//! Reads requests as prost does.

use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};

/// Reads requests of type `R`.
#[derive(Debug)]
pub(super) struct Reader<R>(PhantomData<fn() -> R>);

impl<R> Default for Reader<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R: Message + Default> Decoder for Reader<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        let read = R::decode(bytes);
        read.map(Some)
            .map_err(|error| Status::invalid_argument(format!("not a discovery request: {error}")))
    }
}
