//! Frames of ttrpc: ten bytes of header, then a message.
//!
//! Length and stream number are big-endian. A call is one frame each way, with the same odd
//! stream number. See containerd/ttrpc's PROTOCOL.md.

use crate::proto::rpc::{Request, Response, Status};

/// Length of a header.
pub(crate) const HEADER: usize = 10;

/// Longest message that either side may send (PROTOCOL.md: 4 MiB).
pub const MAX: usize = 4 << 20;

/// Kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call.
    Request = 1,
    /// Its answer.
    Response = 2,
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which call it belongs to.
    pub stream: u32,
    /// The raw kind: [`Kind`], or 3 for data of a stream.
    pub kind: u8,
    /// The message.
    pub body: Vec<u8>,
}

/// A frame that is longer than any may be: by its header, the rest may not be there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Which call it belongs to.
    pub stream: u32,
    /// Bytes behind the header.
    pub length: usize,
}

/// A frame with this message.
#[must_use]
pub fn encode(stream: u32, kind: Kind, message: &impl prost::Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(HEADER + length);
    // Above 4 GiB nothing is ever sent: bodies are limited on both sides.
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind as u8, 0]);
    message
        .encode(&mut bytes)
        .expect("a Vec takes what it has been measured for");
    bytes
}

/// The frame of a call.
#[must_use]
pub fn request(stream: u32, service: &str, method: &str, payload: Vec<u8>) -> Vec<u8> {
    let request = Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload,
        timeout_nano: 0,
    };
    encode(stream, Kind::Request, &request)
}

/// The frame of an answer.
#[must_use]
pub fn response(stream: u32, answer: Result<Vec<u8>, Status>) -> Vec<u8> {
    let response = match answer {
        // Code 0 is said in words: the Go client takes a missing status as one too.
        Ok(payload) => Response {
            status: Some(Status::default()),
            payload,
        },
        Err(status) => Response {
            status: Some(status),
            payload: Vec::new(),
        },
    };
    encode(stream, Kind::Response, &response)
}

/// Takes the first whole frame out of what was read.
///
/// # Errors
/// When the frame claims to be longer than any may be; then it is left in the buffer.
pub fn take(buffer: &mut Vec<u8>) -> Result<Option<Frame>, TooLong> {
    let Some((header, rest)) = buffer.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = *header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let stream = u32::from_be_bytes([s0, s1, s2, s3]);
    if length > MAX {
        return Err(TooLong { stream, length });
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let frame = Frame {
        stream,
        kind,
        body: body.to_vec(),
    };
    buffer.drain(..HEADER + length);
    if buffer.is_empty() {
        // A big request must not be paid for as long as the connection lives.
        *buffer = Vec::new();
    }
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_call_is_what_containerd_sends() {
        let bytes = request(1, "S", "M", vec![7]);
        assert_eq!(
            bytes,
            [
                0, 0, 0, 9, 0, 0, 0, 1, 1, 0, 10, 1, b'S', 18, 1, b'M', 26, 1, 7
            ]
        );
    }

    #[test]
    fn frames_come_out_whole_and_in_order() {
        let mut bytes = request(1, "a", "b", vec![]);
        bytes.extend(request(3, "c", "d", vec![1, 2]));
        let last = bytes.pop().unwrap();
        assert_eq!(take(&mut bytes).unwrap().unwrap().stream, 1);
        assert_eq!(take(&mut bytes), Ok(None));
        bytes.push(last);
        let frame = take(&mut bytes).unwrap().unwrap();
        let request = Request::decode(&*frame.body).unwrap();
        assert_eq!((frame.stream, &*request.service), (3, "c"));
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_frame_that_is_too_long_is_an_error_before_it_is_there() {
        let mut bytes = vec![0xff; HEADER];
        assert!(take(&mut bytes).is_err());
    }
}
