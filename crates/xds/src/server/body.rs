//! A response's body: the frame's prefix and then bytes that streams share. HTTP/2 writes them from where they are, so a
//! stream needs no buffer of its own and a slow reader holds nothing.

use super::watchdog::Watchdog;
use crate::encode::frame;
use crate::stream::{Response, Variant};
use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;

/// The responses of a stream as they go over the wire.
pub(super) struct Written {
    responses: BoxStream<'static, Result<Response, Status>>,
    variant: Variant,
    pieces: VecDeque<Bytes>,
    ended: bool,
    /// Where a connection can be cut.
    watchdog: Option<Watchdog>,
}

impl Written {
    pub(super) fn new(
        responses: BoxStream<'static, Result<Response, Status>>,
        variant: Variant,
        watchdog: Option<Watchdog>,
    ) -> Self {
        Self {
            watchdog,
            responses,
            variant,
            pieces: VecDeque::new(),
            ended: false,
        }
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.ended = true;
        self.pieces.clear();
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            // A message that no header can carry; the code alone says enough.
            trailers.clear();
            trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from(status.code() as i32));
        }
        Frame::trailers(trailers)
    }
}

impl Body for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        this.watchdog.as_ref().inspect(|dog| dog.taken());
        loop {
            if let Some(piece) = this.pieces.pop_front() {
                this.watchdog.as_ref().inspect(|dog| dog.given());
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let next = match Pin::new(&mut this.responses).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            };
            let status = match next {
                Some(Ok(response)) => match frame(&response, this.variant) {
                    Some(pieces) => {
                        this.pieces.extend(pieces);
                        continue;
                    }
                    None => {
                        Status::out_of_range("a response of more than 4 GiB; subscribe to fewer resources")
                    }
                },
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            return Poll::Ready(Some(Ok(this.end(&status))));
        }
    }
}
