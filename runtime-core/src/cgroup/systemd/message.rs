//! D-Bus messages, as far as a conversation with systemd needs them. Pure.
//!
//! See the D-Bus specification, "Marshaling" and "Message Protocol". All is little-endian;
//! what a peer sends is read with every length checked.

/// A value of a unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    I32(i32),
    U64(u64),
    Text(String),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
    U32s(Vec<u32>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Value::Bool(_) => "b",
            Value::I32(_) => "i",
            Value::U64(_) => "t",
            Value::Text(_) => "s",
            Value::Texts(_) => "as",
            Value::Bytes(_) => "ay",
            Value::U32s(_) => "au",
        }
    }
}

/// Writes values one after the other, each where its alignment wants it.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    /// A length of what this program made itself.
    fn length(&mut self, length: usize) {
        self.u32(u32::try_from(length).unwrap_or(u32::MAX));
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array of elements aligned to `align`; its length is of the elements alone.
    pub(super) fn array(&mut self, align: usize, elements: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        elements(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(length_at..length_at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    fn variant(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.flag(*value),
            Value::I32(value) => self.u32(value.cast_unsigned()),
            Value::U64(value) => {
                self.align(8);
                self.0.extend(value.to_le_bytes());
            }
            Value::Text(text) => self.text(text),
            Value::Texts(texts) => self.array(4, |w| texts.iter().for_each(|text| w.text(text))),
            Value::Bytes(bytes) => self.array(1, |w| w.0.extend(bytes)),
            Value::U32s(values) => self.array(4, |w| values.iter().for_each(|v| w.u32(*v))),
        }
    }

    /// `(sv)`, as in a list of properties.
    pub(super) fn property(&mut self, name: &str, value: &Value) {
        self.align(8);
        self.text(name);
        self.variant(value);
    }
}

/// Where a method is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
    /// Signature of the body.
    pub(super) signature: &'static str,
}

/// Header fields by number.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A method call, ready to be sent.
pub(super) fn method_call(method: &Method, serial: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Writer(vec![b'l', 1, 0, 1]);
    message.length(body.len());
    message.u32(serial);
    let texts = [
        (PATH, "o", method.path),
        (INTERFACE, "s", method.interface),
        (MEMBER, "s", method.member),
        (DESTINATION, "s", method.destination),
    ];
    message.array(8, |fields| {
        for (number, signature, text) in texts {
            fields.align(8);
            fields.0.push(number);
            fields.signature(signature);
            fields.text(text);
        }
        if !method.signature.is_empty() {
            fields.align(8);
            fields.0.push(SIGNATURE);
            fields.signature("g");
            fields.signature(method.signature);
        }
    });
    message.align(8);
    message.0.extend(body);
    message.0
}

/// What a message is, by the number in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reply,
    Error,
    Signal,
    Other,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) reply_to: u32,
    pub(super) error: String,
    pub(super) member: String,
    body: Vec<u8>,
}

/// Longest message that is read; the specification's limit is 128 MiB, systemd's answers
/// are short.
const MAX: usize = 1 << 20;

impl Message {
    /// The length of the message that begins with these bytes; none while there are too few.
    pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        if bytes.len() < 16 {
            return Ok(None);
        }
        if bytes.first() != Some(&b'l') {
            return Err("an answer is not little-endian");
        }
        let number = |at: usize| Reader { bytes, at }.u32().ok_or("an answer is too short");
        let (body, fields) = (number(4)? as usize, number(12)? as usize);
        let length = (fields.min(MAX) + 16).next_multiple_of(8) + body.min(MAX);
        if length > MAX {
            return Err("an answer is too long");
        }
        Ok(Some(length))
    }

    /// Reads a whole message; none if it makes no sense.
    pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
        let mut reader = Reader { bytes, at: 0 };
        let kind = match bytes.get(1)? {
            2 => Kind::Reply,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        reader.at = 12;
        let fields = reader.u32()? as usize;
        let end = fields.checked_add(16)?;
        let mut message = Message {
            kind,
            reply_to: 0,
            error: String::new(),
            member: String::new(),
            body: bytes.get(end.checked_next_multiple_of(8)?..)?.to_vec(),
        };
        while reader.at < end {
            reader.align(8);
            let number = reader.u8()?;
            match (number, reader.signature()?.as_str()) {
                (MEMBER, "s") => message.member = reader.text()?,
                (ERROR_NAME, "s") => message.error = reader.text()?,
                (REPLY_SERIAL, "u") => message.reply_to = reader.u32()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                // No other type has a header field today.
                _ => return None,
            }
        }
        Some(message)
    }

    /// The body's values.
    pub(super) fn body(&self) -> Reader<'_> {
        Reader {
            bytes: &self.body,
            at: 0,
        }
    }
}

/// Reads values one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A string or an object path.
    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.u8()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method = Method {
        destination: "org.example",
        path: "/org/example",
        interface: "org.example.Thing",
        member: "Do",
        signature: "s",
    };

    fn body(text: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.text(text);
        body.into_bytes()
    }

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let bytes = method_call(&METHOD, 7, &body("hi"));
        // Little-endian, a call, no flags, version 1, 7 bytes of body, serial 7.
        assert_eq!(&bytes[..12], b"l\x01\x00\x01\x07\0\0\0\x07\0\0\0");
        // The first field: the path.
        assert_eq!(&bytes[16..24], b"\x01\x01o\0\x0c\0\0\0");
        assert_eq!(&bytes[24..37], b"/org/example\0");
        assert!(bytes.ends_with(b"\x02\0\0\0hi\0"));
        assert_eq!(Message::length(&bytes), Ok(Some(bytes.len())));
        assert_eq!(Message::length(&bytes[..15]), Ok(None));
    }

    #[test]
    fn a_message_that_was_written_is_read() {
        let bytes = method_call(&METHOD, 7, &body("hi"));
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Other);
        assert_eq!(message.member, "Do");
        assert_eq!(message.body().text().unwrap(), "hi");
    }

    #[test]
    fn values_stand_where_their_alignment_wants_them() {
        let mut writer = Writer::default();
        writer.text("a");
        writer.array(8, |list| {
            list.property("Delegate", &Value::Bool(true));
            list.property("TasksMax", &Value::U64(5));
            list.property("PIDs", &Value::U32s(vec![1, 2]));
        });
        let bytes = writer.into_bytes();
        let expected: &[u8] = b"\x01\0\0\0a\0\0\0\
            \x50\0\0\0\0\0\0\0\
            \x08\0\0\0Delegate\0\x01b\0\x01\0\0\0\0\0\0\0\
            \x08\0\0\0TasksMax\0\x01t\0\x05\0\0\0\0\0\0\0\
            \x04\0\0\0PIDs\0\x02au\0\0\0\0\x08\0\0\0\x01\0\0\0\x02\0\0\0";
        assert_eq!(bytes.len(), expected.len());
        // The array's length is checked by itself: it ends where the bytes do.
        assert_eq!(
            bytes[8..12],
            u32::try_from(bytes.len() - 16).unwrap().to_le_bytes()
        );
        assert_eq!(bytes[16..], expected[16..]);
    }

    #[test]
    fn damaged_messages_are_refused_and_never_panic() {
        let whole = method_call(&METHOD, 7, &body("hi"));
        for length in 0..whole.len() {
            let cut = &whole[..length];
            if let Some(message) = Message::parse(cut) {
                drop(message.body().text());
            }
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let length = Message::length(&damaged).unwrap_or_default();
                assert!(length.is_none_or(|length| length <= MAX));
                if let Some(message) = Message::parse(&damaged) {
                    drop((message.body().text(), message.body().u32()));
                }
            }
        }
        let mut long = whole;
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Message::length(&long), Err("an answer is too long"));
    }
}
