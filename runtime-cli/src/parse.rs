//! Words of a command line into flags and arguments, by the table of `flags`.
//!
//! The rules are those of Go's `flag` package, which runc's callers rely on: one dash or two in
//! front of any name, `-name=x` or `-name x`, `-switch=false`, `--` ends the flags, no clusters of
//! one-letter flags. lexopt was looked at: it reads `-bundle` as `-b undle`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::flags::{Flag, HELP, Value};

/// Where flags may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Also between and after the arguments.
    Anywhere,
    /// Only before the first argument; what follows it is left as it is.
    First,
}

/// The flags given, and the arguments.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    flags: Vec<(&'static str, OsString)>,
    pub(crate) arguments: Vec<OsString>,
}

impl Matches {
    /// Whether the switch `long` is on.
    pub(crate) fn switch(&self, long: &str) -> bool {
        self.value(long).is_some_and(|value| value == "true")
    }

    /// The value of `long`; where it was given twice, the last one.
    pub(crate) fn value(&self, long: &str) -> Option<&OsStr> {
        self.flags
            .iter()
            .rev()
            .find(|(name, _)| *name == long)
            .map(|(_, value)| value.as_os_str())
    }

    /// All values of `long`, in their order.
    pub(crate) fn values(&self, long: &str) -> Vec<&OsStr> {
        let given = self.flags.iter().filter(|(name, _)| *name == long);
        given.map(|(_, value)| value.as_os_str()).collect()
    }

    /// The number given as `long`, 0 without one. The parser has checked it.
    pub(crate) fn number(&self, long: &str) -> u32 {
        self.value(long).and_then(number).unwrap_or(0)
    }

    /// Argument `index` as text; bytes that are not UTF-8 become U+FFFD, which no id may hold.
    pub(crate) fn argument(&self, index: usize) -> Option<String> {
        self.arguments
            .get(index)
            .map(|argument| argument.to_string_lossy().into_owned())
    }
}

/// Reads `words`; an error is the text of a usage error.
pub(crate) fn parse(
    table: &'static [Flag],
    place: Place,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Matches, String> {
    let mut matches = Matches::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        let Some((name, attached)) = split(&word) else {
            matches.arguments.push(word);
            if place == Place::First {
                break;
            }
            continue;
        };
        let name = name.to_string_lossy();
        let flag =
            find(table, &name).ok_or_else(|| format!("flag provided but not defined: -{name}"))?;
        let value = value(flag, &name, attached, &mut words)?;
        matches.flags.push((flag.long, value));
    }
    matches.arguments.extend(words);
    Ok(matches)
}

fn find(table: &'static [Flag], name: &str) -> Option<&'static Flag> {
    table.iter().chain([&HELP]).find(|flag| flag.is(name))
}

/// `-name` and `-name=value` into their parts; `None` for an argument.
fn split(word: &OsStr) -> Option<(&OsStr, Option<OsString>)> {
    let bytes = word.as_bytes();
    let rest = bytes
        .strip_prefix(b"--")
        .or_else(|| bytes.strip_prefix(b"-"))?;
    if rest.is_empty() {
        return None;
    }
    let mut parts = rest.splitn(2, |byte| *byte == b'=');
    let name = OsStr::from_bytes(parts.next().unwrap_or(rest));
    Some((
        name,
        parts.next().map(|value| OsString::from_vec(value.to_vec())),
    ))
}

fn value(
    flag: &Flag,
    name: &str,
    attached: Option<OsString>,
    words: &mut impl Iterator<Item = OsString>,
) -> Result<OsString, String> {
    if flag.value == Value::Switch {
        let Some(text) = attached else {
            return Ok("true".into());
        };
        return switch(&text).map(OsString::from).ok_or_else(|| {
            format!(
                "invalid boolean value {:?} for -{name}: parse error",
                text.to_string_lossy()
            )
        });
    }
    let text = match attached {
        Some(text) => text,
        None => words
            .next()
            .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
    };
    if matches!(flag.value, Value::Number(_)) && number(&text).is_none() {
        let text = text.to_string_lossy();
        return Err(format!(
            "invalid value {text:?} for flag -{name}: parse error"
        ));
    }
    Ok(text)
}

/// The spellings of a switch's value that Go knows.
fn switch(text: &OsStr) -> Option<&'static str> {
    match text.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some("true"),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some("false"),
        _ => None,
    }
}

/// Digits only: a number that does not fit, or has a sign, is an error and never another number.
fn number(text: &OsStr) -> Option<u32> {
    let digits = text
        .to_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{GLOBAL, command};

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn read(name: &str, line: &str) -> Result<Matches, String> {
        parse(command(name).unwrap().flags, Place::Anywhere, words(line))
    }

    #[test]
    fn flags_may_follow_the_arguments() {
        let matches = read("create", "web --bundle /b --no-pivot").unwrap();
        assert_eq!(matches.arguments, ["web"]);
        assert_eq!(matches.value("bundle").unwrap(), "/b");
        assert!(matches.switch("no-pivot"));
    }

    #[test]
    fn one_dash_and_two_are_the_same() {
        for line in [
            "-b /b a",
            "--b /b a",
            "-bundle /b a",
            "--bundle /b a",
            "-b=/b a",
            "--bundle=/b a",
        ] {
            let matches = read("run", line).unwrap();
            assert_eq!(matches.value("bundle").unwrap(), "/b", "{line}");
            assert_eq!(matches.arguments, ["a"], "{line}");
        }
    }

    #[test]
    fn a_value_may_begin_with_a_dash_or_hold_an_equals_sign() {
        assert_eq!(
            read("run", "--bundle -x a")
                .unwrap()
                .value("bundle")
                .unwrap(),
            "-x"
        );
        assert_eq!(
            read("run", "--bundle=a=b c")
                .unwrap()
                .value("bundle")
                .unwrap(),
            "a=b"
        );
    }

    #[test]
    fn the_last_of_two_values_wins() {
        assert_eq!(
            read("run", "-b x -b y a").unwrap().value("bundle").unwrap(),
            "y"
        );
        assert!(!read("run", "-d -d=false a").unwrap().switch("detach"));
    }

    #[test]
    fn two_dashes_end_the_flags() {
        assert_eq!(read("create", "-- -b").unwrap().arguments, ["-b"]);
        assert_eq!(
            read("create", "a -- --bundle").unwrap().arguments,
            ["a", "--bundle"]
        );
    }

    #[test]
    fn a_lone_dash_is_an_argument() {
        assert_eq!(read("create", "-").unwrap().arguments, ["-"]);
    }

    #[test]
    fn usage_errors_have_the_words_of_runc() {
        for (name, line, text) in [
            (
                "create",
                "--nosuch a",
                "flag provided but not defined: -nosuch",
            ),
            ("list", "-fq json", "flag provided but not defined: -fq"),
            ("create", "a --bundle", "flag needs an argument: -bundle"),
            (
                "create",
                "--preserve-fds x a",
                "invalid value \"x\" for flag -preserve-fds: parse error",
            ),
            (
                "create",
                "--no-pivot=x a",
                "invalid boolean value \"x\" for -no-pivot: parse error",
            ),
        ] {
            assert_eq!(read(name, line).unwrap_err(), text);
        }
    }

    #[test]
    fn a_number_is_never_cut_or_negative() {
        assert_eq!(
            read("run", "--preserve-fds 3 a")
                .unwrap()
                .number("preserve-fds"),
            3
        );
        for bad in ["4294967296", "-1", "+1", "", "0x3"] {
            let flag = OsString::from(format!("--preserve-fds={bad}"));
            assert!(
                parse(command("run").unwrap().flags, Place::Anywhere, [flag]).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn global_flags_end_at_the_command() {
        let line = words("--root /r -debug run --bundle /b a");
        let matches = parse(GLOBAL, Place::First, line).unwrap();
        assert!(matches.switch("debug"));
        assert_eq!(matches.arguments, ["run", "--bundle", "/b", "a"]);
    }

    #[test]
    fn a_path_that_is_not_utf8_stays_as_it_is() {
        let path = OsStr::from_bytes(b"/b\xff");
        let line = ["--bundle".into(), path.to_owned()];
        let matches = parse(command("run").unwrap().flags, Place::Anywhere, line).unwrap();
        assert_eq!(matches.value("bundle").unwrap(), path);
    }
}
