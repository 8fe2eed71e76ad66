//! The bodies of the simulator's answers. The bytes are slices of memory, or are read from a file or generated
//! piece by piece. A fault may limit their rate, cut them, stall them or flip a bit.

use super::objects::{CHUNK_BYTES, Content};
use super::options::Failure;
use super::shared::{Connection, InFlight};
use crate::process::locks::lock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// The time that sent bytes get to reach the client before a fault ends the connection.
const FLUSH_TIME: Duration = Duration::from_millis(2);
/// The time by which a connection may be behind its bandwidth limit and still catch up with a burst.
const PACE_SLACK: Duration = Duration::from_millis(5);

/// The body of one answer of the simulator. It produces the bytes and applies the faults.
pub(super) struct SimBody {
    source: Source,
    at: u64,
    end: u64,
    /// The offset at which a fault ends the body before its end, and the way in which it does.
    stop: Option<(u64, Stop)>,
    flip_at: Option<u64>,
    bandwidth: Option<u64>,
    sleep: Option<Pin<Box<Sleep>>>,
    flushed: bool,
    connection: Arc<Connection>,
    in_flight: Option<InFlight>,
}

enum Source {
    Content(Content),
    File(File),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Close,
    Reset,
    Stall,
}

impl SimBody {
    /// Creates a body with a short text, for example the XML of an error. The text may be empty.
    pub(super) fn text(text: impl Into<Bytes>, connection: &Arc<Connection>, in_flight: Option<InFlight>) -> Self {
        let text = text.into();
        Self {
            end: text.len() as u64,
            source: Source::Content(Content::Memory(text)),
            at: 0,
            stop: None,
            flip_at: None,
            bandwidth: None,
            sleep: None,
            flushed: false,
            connection: Arc::clone(connection),
            in_flight,
        }
    }

    /// Creates a body with the bytes `range` of an object. The range must lie inside the object.
    pub(super) fn object(
        content: &Content,
        range: Range<u64>,
        connection: &Arc<Connection>,
        in_flight: Option<InFlight>,
    ) -> io::Result<Self> {
        let source = match content {
            Content::File { path, .. } => Source::File(File::open(path)?),
            other => Source::Content(other.clone()),
        };
        let mut body = Self::text(Bytes::new(), connection, in_flight);
        body.source = source;
        body.at = range.start;
        body.end = range.end;
        Ok(body)
    }

    pub(super) fn paced(mut self, bytes_per_second: Option<u64>) -> Self {
        self.bandwidth = bytes_per_second.filter(|&rate| rate > 0);
        self
    }

    /// Makes the body end as `failure` demands. Kinds of failures that do not concern bodies have no effect.
    pub(super) fn failing(mut self, failure: Option<Failure>, flip_at: u64) -> Self {
        let len = self.end - self.at;
        let half = self.at + len / 2;
        match failure {
            Some(Failure::HalfBody) => self.stop = Some((half, Stop::Close)),
            Some(Failure::ResetAfterHeaders) => self.stop = Some((self.at, Stop::Reset)),
            Some(Failure::StalledBody) => self.stop = Some((half, Stop::Stall)),
            Some(Failure::FlippedBit) if len > 0 => {
                self.flip_at = Some(self.at + ((u128::from(flip_at) * u128::from(len)) >> 64) as u64);
            }
            Some(Failure::FlippedBitAt(at)) if len > 0 => self.flip_at = Some(self.at + at.min(len - 1)),
            _ => {}
        }
        self
    }

    fn piece(&self, from: u64, len: u64) -> io::Result<Bytes> {
        let piece = match &self.source {
            Source::Content(Content::Memory(bytes)) => bytes.slice(from as usize..(from + len) as usize),
            Source::Content(Content::Generated { make, .. }) => make(from..from + len),
            Source::Content(Content::File { .. }) => return Err(io::ErrorKind::Unsupported.into()),
            Source::File(file) => {
                let mut buffer = vec![0; len as usize];
                file.read_exact_at(&mut buffer, from)?;
                buffer.into()
            }
        };
        if piece.len() as u64 != len {
            return Err(io::Error::other("a generator made a piece of the wrong length"));
        }
        match self.flip_at {
            Some(flip) if (from..from + len).contains(&flip) => {
                let mut damaged = piece.to_vec();
                if let Some(byte) = damaged.get_mut((flip - from) as usize) {
                    *byte ^= 1 << (flip % 8);
                }
                Ok(damaged.into())
            }
            _ => Ok(piece),
        }
    }

    fn piece_bytes(&self) -> u64 {
        self.bandwidth.map_or(CHUNK_BYTES, |rate| (rate / 200).clamp(2048, CHUNK_BYTES))
    }

    /// The time at which the connection may send again. None if it may send now.
    fn pace(&self, rate: u64, now: Instant) -> Option<Instant> {
        let mut due = lock(&self.connection.due);
        if *due > now {
            return Some(*due);
        }
        let step = Duration::from_secs_f64(self.piece_bytes() as f64 / rate as f64);
        *due = (*due).max(now.checked_sub(PACE_SLACK).unwrap_or(now)) + step;
        None
    }
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        loop {
            if let Some(sleep) = this.sleep.as_mut() {
                ready!(sleep.as_mut().poll(cx));
                this.sleep = None;
            }
            let mut limit = this.end;
            if let Some((stop_at, stop)) = this.stop {
                if this.at >= stop_at {
                    if !this.flushed {
                        this.flushed = true;
                        this.sleep = Some(Box::pin(tokio::time::sleep(FLUSH_TIME)));
                        continue;
                    }
                    match stop {
                        Stop::Stall => return Poll::Pending,
                        Stop::Reset => this.connection.reset.store(true, Ordering::Release),
                        Stop::Close => {}
                    }
                    return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
                }
                limit = limit.min(stop_at);
            }
            if this.at >= this.end {
                this.in_flight = None;
                return Poll::Ready(None);
            }
            if let Some(rate) = this.bandwidth
                && let Some(due) = this.pace(rate, Instant::now())
            {
                this.sleep = Some(Box::pin(tokio::time::sleep_until(due.into())));
                continue;
            }
            let len = (limit - this.at).min(this.piece_bytes());
            let piece = match this.piece(this.at, len) {
                Ok(piece) => piece,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            this.at += len;
            this.connection.count_body_bytes(len);
            if this.at == this.end {
                this.in_flight = None;
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end && self.stop.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}
