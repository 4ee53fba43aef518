//! `linux.seccomp` as a spec holds it: read, or as the text of a profile that is known.
//!
//! Engines give thousands of containers one profile, which is most of their config.json. Who knows
//! by its text what it becomes need not read it again: see [`parse_known`].

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

use super::json::Object;
use super::read::{parse, read};
use super::{Seccomp, Spec, SpecError};

/// Longest text of a profile that is kept, in bytes.
pub(crate) const TEXT_MAX: usize = 64 << 10;

/// A filter that was made of a profile before: all that planning asks of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// The program, two words per instruction.
    pub(crate) program: Vec<u32>,
    /// The profile's own flags for seccomp(2), if it has a list of them.
    pub(crate) flags: Option<u32>,
    /// Which of init's calls behind a filter it lets through for sure, one bit each.
    pub(crate) passes: u64,
    /// What in the profile has no effect.
    pub(crate) warnings: Vec<String>,
}

/// `linux.seccomp`.
///
/// ```
/// let config = br#"{"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}}"#;
/// let spec = corten_core::spec::parse(config)?;
/// let profile = spec.linux.and_then(|linux| linux.seccomp).ok_or("no profile")?;
/// assert!(profile.seccomp()?.syscalls.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Profile {
    /// None only of one that is known.
    seccomp: Option<Box<Seccomp>>,
    text: Option<Box<str>>,
    compiled: Option<Arc<Compiled>>,
}

impl Profile {
    /// What is written there.
    ///
    /// # Errors
    /// None unless memory or a file of the state directory was damaged: the text of a known profile
    /// has been read before.
    pub fn seccomp(&self) -> Result<Cow<'_, Seccomp>, SpecError> {
        match (&self.seccomp, &self.text) {
            (Some(seccomp), _) => Ok(Cow::Borrowed(seccomp)),
            (None, text) => read_text(text.as_deref().unwrap_or_default()).map(Cow::Owned),
        }
    }

    /// The profile's JSON, of one that was read with a look at what is known.
    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// What was made of it before.
    pub(crate) fn compiled(&self) -> Option<&Arc<Compiled>> {
        self.compiled.as_ref()
    }
}

impl From<Seccomp> for Profile {
    fn from(seccomp: Seccomp) -> Profile {
        Profile {
            seccomp: Some(Box::new(seccomp)),
            text: None,
            compiled: None,
        }
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seccomp() {
            Ok(seccomp) => seccomp.fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

/// By what is written there, however it was read.
impl PartialEq for Profile {
    fn eq(&self, other: &Profile) -> bool {
        match (self.seccomp(), other.seccomp()) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
    }
}

impl Serialize for Profile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.seccomp().map_err(S::Error::custom)?.serialize(to)
    }
}

thread_local! {
    /// Whether this thread leaves profiles as text while it reads a spec.
    ///
    /// The types of a spec read themselves, by serde: what they are to know can't be handed down.
    static AS_TEXT: Cell<bool> = const { Cell::new(false) };
}

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Profile, D::Error> {
        if !AS_TEXT.get() {
            return Ok(Object::<Seccomp>::deserialize(from)?.0.into());
        }
        let text: Box<str> = Box::<RawValue>::deserialize(from)?.into();
        if text.len() > TEXT_MAX {
            return match read_text(&text) {
                Ok(seccomp) => Ok(seccomp.into()),
                Err(error) => Err(D::Error::custom(error)),
            };
        }
        Ok(Profile {
            seccomp: None,
            text: Some(text),
            compiled: None,
        })
    }
}

fn read_text(text: &str) -> Result<Seccomp, SpecError> {
    read(text.as_bytes(), |path| match path.as_str() {
        "" => "linux.seccomp".to_owned(),
        path => format!("linux.seccomp.{path}"),
    })
}

/// Leaves profiles as text meanwhile.
fn as_text<T>(run: impl FnOnce() -> T) -> T {
    /// Also when that panics.
    struct Over;
    impl Drop for Over {
        fn drop(&mut self) {
            AS_TEXT.set(false);
        }
    }
    AS_TEXT.set(true);
    let _over = Over;
    run()
}

/// Reads a config.json as [`parse`] does, but asks `find` about the text of `linux.seccomp` first,
/// and does not read what that knows.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_known(
    bytes: &[u8],
    find: impl FnOnce(&str) -> Option<Compiled>,
) -> Result<Spec, SpecError> {
    let spec = as_text(|| read::<Spec>(bytes, |path| path));
    // Errors are to be those of a whole file, in its order and with its lines.
    let Ok(mut spec) = spec else {
        return parse(bytes);
    };
    let linux = spec.linux.as_mut();
    if let Some(profile) = linux.and_then(|linux| linux.seccomp.as_mut())
        && let (None, Some(text)) = (&profile.seccomp, &profile.text)
    {
        if let Some(compiled) = find(text) {
            profile.compiled = Some(Arc::new(compiled));
        } else if let Ok(seccomp) = read_text(text) {
            profile.seccomp = Some(Box::new(seccomp));
        } else {
            return parse(bytes);
        }
    }
    Ok(spec)
}
