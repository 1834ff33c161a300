//! Messages that all adapters outside of the process have in common (`istio.mixer.adapter.model.v1beta1`), and the codec that
//! sends what is encoded already.

use std::collections::HashMap;
use std::marker::PhantomData;

use bytes::BufMut;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// google.rpc.Status, without details.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// The answer to a check. How long it holds is not looked at: each request is asked about.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckResult {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<RpcStatus>,
}

/// The answer to a call for units, by quota.
#[derive(Clone, PartialEq, Message)]
pub(super) struct QuotaResult {
    #[prost(map = "string, message", tag = "1")]
    pub(super) quotas: HashMap<String, Granted>,
}

/// Units that were granted. How long that holds is not looked at.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Granted {
    #[prost(int64, tag = "3")]
    pub(super) granted_amount: i64,
    /// Why it cannot be told how many.
    #[prost(message, optional, tag = "4")]
    pub(super) status: Option<RpcStatus>,
}

/// The answer to a report: nothing.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ReportResult {}

/// What Validate and CreateSession are told. Types of instances are not inferred for them.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) adapter_config: Option<prost_types::Any>,
}

/// The answer of Validate and of CloseSession.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Accepted {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<RpcStatus>,
}

/// The answer of CreateSession.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateSessionResponse {
    #[prost(string, tag = "1")]
    pub(super) session_id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) status: Option<RpcStatus>,
}

/// What CloseSession is told.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CloseSessionRequest {
    #[prost(string, tag = "1")]
    pub(super) session_id: String,
}

/// Bytes out, a message in.
pub(super) struct BytesOut<T>(PhantomData<T>);

impl<T> Default for BytesOut<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Default + Send + 'static> Codec for BytesOut<T> {
    type Encode = Vec<u8>;
    type Decode = T;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<T> Encoder for BytesOut<T> {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl<T: Message + Default> Decoder for BytesOut<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let decoded = T::decode(buffer);
        decoded
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
