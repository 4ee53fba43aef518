//! Where in a JSON document a parser stopped, as a path such as `mounts[3].options`.
//!
//! The parser tells line and column only. To keep the path while it reads would cost every start a
//! text for each key; so the document is walked a second time, up to there, once there is something
//! to tell. What comes before was good JSON: that is not checked again.

use super::error::member;

/// What a walk is in, from the outside in.
enum Level {
    /// An array, at the element of this index.
    List(usize),
    /// An object, at the member of this name, if there is a colon behind a name.
    Object(Option<String>),
}

/// Levels and bytes of a name that are told: what goes beyond is no mistake but malice.
const MAX_LEVELS: usize = 128;
const MAX_NAME: usize = 200;

#[derive(Default)]
struct Walk {
    levels: Vec<Level>,
    /// How many levels it is in besides.
    deeper: usize,
    /// The text read last, which may be a name.
    text: String,
    /// Whether a value has ended and no comma has come.
    ended: bool,
}

/// The place of an error that a parser found at this line and column. `is_value`: there was a value,
/// but a wrong one; otherwise the last character is what should not be there.
pub(super) fn place(json: &[u8], [line, column]: [usize; 2], is_value: bool) -> String {
    let before = line.saturating_sub(1);
    let ends = json.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let start = match before
        .checked_sub(1)
        .map(|last| ends.map(|(at, _)| at + 1).nth(last))
    {
        Some(start) => start.unwrap_or(json.len()),
        None => 0,
    };
    let end = (start + column).min(json.len());
    let (read, bad) = match is_value {
        true => (end, None),
        false => (end.saturating_sub(1), json.get(end.saturating_sub(1))),
    };
    let mut walk = Walk::default();
    walk.read(json.get(..read).unwrap_or(json));
    if !is_value && (walk.ended || matches!(bad, Some(b']' | b'}'))) {
        // The array or object around it is what is wrong.
        walk.leave();
    }
    walk.path()
}

impl Walk {
    fn read(&mut self, json: &[u8]) {
        let mut rest = json;
        while let Some((byte, behind)) = rest.split_first() {
            rest = behind;
            match byte {
                b'"' => rest = self.text(behind),
                b'[' | b'{' => {
                    self.enter(match byte {
                        b'[' => Level::List(0),
                        _ => Level::Object(None),
                    });
                    self.ended = false;
                }
                b']' | b'}' => {
                    self.leave();
                    self.ended = true;
                }
                b':' => {
                    let text = std::mem::take(&mut self.text);
                    if let Some(Level::Object(name)) = self.innermost() {
                        *name = Some(shortened(text));
                    }
                    self.ended = false;
                }
                b',' => {
                    match self.innermost() {
                        Some(Level::List(index)) => *index += 1,
                        Some(Level::Object(name)) => *name = None,
                        None => {}
                    }
                    self.ended = false;
                }
                byte if byte.is_ascii_whitespace() => {}
                _ => self.ended = true,
            }
        }
    }

    fn enter(&mut self, level: Level) {
        if self.levels.len() < MAX_LEVELS {
            self.levels.push(level);
        } else {
            self.deeper += 1;
        }
    }

    fn leave(&mut self) {
        match self.deeper.checked_sub(1) {
            Some(deeper) => self.deeper = deeper,
            None => drop(self.levels.pop()),
        }
    }

    fn innermost(&mut self) -> Option<&mut Level> {
        self.levels.last_mut().filter(|_| self.deeper == 0)
    }

    /// Reads a text behind its first quote. What is left behind it.
    fn text<'j>(&mut self, json: &'j [u8]) -> &'j [u8] {
        let mut escaped = false;
        let end = json.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let Some((text, rest)) = end.and_then(|end| json.split_at_checked(end)) else {
            return &[];
        };
        let text = String::from_utf8_lossy(text);
        let quoted = ["\"", &text, "\""].concat();
        self.text = serde_json::from_str(&quoted).unwrap_or_else(|_| text.into_owned());
        self.ended = true;
        rest.get(1..).unwrap_or_default()
    }

    fn path(&self) -> String {
        self.levels
            .iter()
            .fold(String::new(), |path, level| match level {
                Level::List(index) => format!("{path}[{index}]"),
                Level::Object(Some(name)) => member(&path, name),
                Level::Object(None) => path,
            })
    }
}

fn shortened(mut name: String) -> String {
    if name.len() > MAX_NAME {
        name.truncate(name.floor_char_boundary(MAX_NAME));
        name.push_str("...");
    }
    name
}
