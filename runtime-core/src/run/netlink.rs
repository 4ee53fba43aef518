//! Requests to the routing part of the kernel, and its answers.
//!
//! See netlink(7) and rtnetlink(7). Numbers are those of linux/netlink.h and
//! linux/rtnetlink.h.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::error::errno_text;
use crate::sys::netlink;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Bytes of a message's head: length, type, flags, sequence, port.
const HEAD: usize = 16;

/// Why the kernel said no, with its own words if it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    words: String,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        let words = String::new();
        Refusal { errno, words }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cause = errno_text(self.errno.raw_os_error());
        match self.words.as_str() {
            "" => f.write_str(&cause),
            words => write!(f, "{cause}: {words}"),
        }
    }
}

/// A message being made.
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// A request with its fixed part; `more` are `NLM_F_*` besides those that all have.
    pub(crate) fn new(kind: u16, more: u16, fixed: &[u8]) -> Request {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK | more).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        Request(bytes)
    }

    /// A request for a list of everything.
    pub(crate) fn list(kind: u16, fixed: &[u8]) -> Request {
        Request::new(kind, NLM_F_DUMP, fixed)
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Request {
        // Values are names and numbers: far below 64 KiB.
        let length = (value.len() + 4) as u16;
        self.pad();
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self
    }

    fn pad(&mut self) {
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.pad();
        let length = self.0.len() as u32;
        if let Some(head) = self.0.first_chunk_mut() {
            *head = length.to_ne_bytes();
        }
        self.0
    }
}

/// A routing socket. One request at a time, so that answers need no number.
#[derive(Debug)]
pub(crate) struct Link(pub(crate) OwnedFd);

impl Link {
    /// Sends a request and reads all that comes back: the messages behind their heads.
    pub(crate) fn ask(&self, request: Request) -> Result<Vec<Vec<u8>>, Refusal> {
        /// A list can be made anew while it is read.
        const ATTEMPTS: usize = 8;
        let request = request.finish();
        for _ in 0..ATTEMPTS {
            if let Some(answers) = self.ask_once(&request)? {
                return Ok(answers);
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// None if what was listed changed meanwhile.
    fn ask_once(&self, request: &[u8]) -> Result<Option<Vec<Vec<u8>>>, Refusal> {
        netlink::send(self.0.as_fd(), request)?;
        let mut answers = Vec::new();
        let mut whole = true;
        loop {
            let bytes = netlink::receive(self.0.as_fd())?;
            let mut rest = bytes.as_slice();
            while let Some(message) = Message::first(rest) {
                let message = message?;
                rest = rest.get(message.length..).unwrap_or(&[]);
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(whole.then_some(answers)),
                    NLMSG_ERROR => {
                        return match refusal(message.body)? {
                            Some(refusal) => Err(refusal),
                            None => Ok(Some(answers)),
                        };
                    }
                    _ => answers.push(message.body.to_vec()),
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
    /// With what follows it to the next one.
    length: usize,
}

impl Message<'_> {
    /// The first of several; none where no more are.
    fn first(bytes: &[u8]) -> Option<Result<Message<'_>, Errno>> {
        if bytes.is_empty() {
            return None;
        }
        Some(Message::parse(bytes).ok_or(Errno::PROTO))
    }

    fn parse(bytes: &[u8]) -> Option<Message<'_>> {
        let length = number(bytes, 0)? as usize;
        let [a, b, c, d] = number(bytes, 4)?.to_ne_bytes();
        Some(Message {
            kind: u16::from_ne_bytes([a, b]),
            flags: u16::from_ne_bytes([c, d]),
            body: bytes.get(HEAD..length)?,
            length: length.next_multiple_of(4),
        })
    }
}

/// What an answer of the error type says; an errno of 0 says that all is well.
fn refusal(body: &[u8]) -> Result<Option<Refusal>, Errno> {
    let errno = number(body, 0).ok_or(Errno::PROTO)? as i32;
    if errno == 0 {
        return Ok(None);
    }
    // Behind the errno is the head of the request, and no more of it.
    let attributes = body.get(4 + HEAD..).unwrap_or(&[]);
    let words = attribute(attributes, NLMSGERR_ATTR_MSG).unwrap_or(&[]);
    let words = String::from_utf8_lossy(words.strip_suffix(b"\0").unwrap_or(words));
    Ok(Some(Refusal {
        errno: Errno::from_raw_os_error(errno.wrapping_neg()),
        words: words.into_owned(),
    }))
}

/// A 32-bit number at an offset.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*four))
}

/// The value of the first attribute of a kind.
pub(crate) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    // The two upper bits say how the value is made, and are no part of the kind.
    const KIND: u16 = 0x3fff;
    loop {
        let [a, b, c, d] = number(attributes, 0)?.to_ne_bytes();
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([c, d]) & KIND == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_length_and_padded_attributes() {
        let request = Request::new(16, 0, &[1, 2, 3, 4])
            .with(3, b"lo\0")
            .with(9, &[7; 4]);
        let bytes = request.finish();
        assert_eq!(bytes.len(), 16 + 4 + 8 + 8);
        assert_eq!(number(&bytes, 0), Some(36));
        assert_eq!(attribute(&bytes[20..], 3), Some(&b"lo\0"[..]));
        assert_eq!(attribute(&bytes[20..], 9), Some(&[7; 4][..]));
        assert_eq!(attribute(&bytes[20..], 4), None);
    }

    #[test]
    fn a_refusal_has_the_kernels_words_and_an_acknowledgement_is_none() {
        let mut body = (-17i32).to_ne_bytes().to_vec();
        body.extend([0; HEAD]);
        let words = Request(body).with(NLMSGERR_ATTR_MSG, b"it is there\0");
        let refusal = refusal(&words.0).unwrap().unwrap();
        assert_eq!(refusal.to_string(), "file exists: it is there");
        assert_eq!(super::refusal(&[0; 20]), Ok(None));
        assert_eq!(super::refusal(&[0; 2]), Err(Errno::PROTO));
    }

    #[test]
    fn a_message_that_is_longer_than_what_came_is_refused() {
        let mut bytes = Request::new(1, 0, &[0; 4]).finish();
        bytes[0] += 1;
        assert_eq!(Message::first(&bytes).unwrap().err(), Some(Errno::PROTO));
        assert!(Message::first(&[]).is_none());
        assert!(attribute(&[200, 0, 1, 0, 5], 1).is_none());
        assert!(attribute(&[0, 0, 1, 0], 1).is_none());
    }
}
