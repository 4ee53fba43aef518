//! `linux.namespaces` of a config.json, looked up before the rest is read.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::Namespace;

/// The list, if there is one that can be read; what comes behind it is not looked at.
///
/// Whether it counts is known when all has been read: this is no check of anything.
pub(crate) fn namespaces(config: &[u8]) -> Option<Vec<Namespace>> {
    let mut found = None;
    let path = Path {
        names: &["linux", "namespaces"],
        found: &mut found,
    };
    // It ends with an error where the list was found, too.
    let _ = serde_json::Deserializer::from_slice(config).deserialize_map(path);
    found
}

/// Where in an object the list is.
struct Path<'a> {
    names: &'a [&'a str],
    found: &'a mut Option<Vec<Namespace>>,
}

impl<'de> Visitor<'de> for Path<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, names)) = self.names.split_first() else {
            return Ok(());
        };
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name != *wanted {
                map.next_value::<IgnoredAny>()?;
            } else if names.is_empty() {
                *self.found = map.next_value()?;
                return Err(A::Error::custom("found"));
            } else {
                let found = &mut *self.found;
                return map.next_value_seed(Path { names, found });
            }
        }
        Ok(())
    }
}

impl<'de> serde::de::DeserializeSeed<'de> for Path<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{default_spec, to_json};

    #[test]
    fn the_list_is_found_wherever_it_is() {
        let written = to_json(&default_spec());
        let spec = crate::spec::parse(written.as_bytes()).unwrap();
        assert_eq!(
            namespaces(written.as_bytes()).as_deref(),
            Some(spec.namespaces())
        );
        let other = r#"{"a": {"linux": {"namespaces": [{"type": "pid"}]}}, "linux":
            {"b": [1, {"c": null}], "namespaces": [{"type": "network", "path": "/n"}], "d": 1}}"#;
        let found = namespaces(other.as_bytes()).unwrap();
        let path = found.first().and_then(|one| one.path.as_deref());
        assert_eq!((found.len(), path), (1, Some("/n")));
    }

    #[test]
    fn what_comes_behind_it_is_not_looked_at() {
        let cut = br#"{"linux": {"namespaces": [{"type": "uts"}], "seccomp": {"#;
        assert_eq!(namespaces(cut).map(|list| list.len()), Some(1));
    }

    #[test]
    fn what_is_no_list_is_none() {
        for config in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"linux": null}"#,
            r#"{"linux": {}}"#,
            r#"{"linux": {"namespaces": null}}"#,
            r#"{"linux": {"namespaces": [{"type": "web"}]}}"#,
            r#"{"linux": {"namespaces": {"type": "pid"}}}"#,
        ] {
            assert_eq!(namespaces(config.as_bytes()), None, "{config}");
        }
    }
}
