//! A codec that writes responses from encoded resources, and reads requests as prost does.

use crate::encode::{encode, size_hint};
use crate::stream::{Response, Variant};
use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The codec of one variant, with requests of type `R`.
#[derive(Debug)]
pub(super) struct Encoded<R> {
    variant: Variant,
    request: PhantomData<fn() -> R>,
}

impl<R> Encoded<R> {
    pub(super) fn new(variant: Variant) -> Self {
        Self {
            variant,
            request: PhantomData,
        }
    }
}

impl<R: Message + Default + 'static> Codec for Encoded<R> {
    type Encode = Response;
    type Decode = R;
    type Encoder = Writer;
    type Decoder = Reader<R>;

    fn encoder(&mut self) -> Writer {
        Writer(self.variant)
    }

    fn decoder(&mut self) -> Reader<R> {
        Reader(PhantomData)
    }
}

#[derive(Debug)]
pub(super) struct Writer(Variant);

impl Encoder for Writer {
    type Item = Response;
    type Error = Status;

    fn encode(&mut self, response: Response, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(size_hint(&response));
        encode(&response, self.0, out);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Reader<R>(PhantomData<fn() -> R>);

impl<R: Message + Default> Decoder for Reader<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        let read = R::decode(bytes);
        read.map(Some)
            .map_err(|error| Status::invalid_argument(format!("not a discovery request: {error}")))
    }
}
