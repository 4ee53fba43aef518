//! `linux.namespaces` of a config.json, looked up before the rest is read.

use serde::Deserialize;

use super::Namespace;

/// What is probably the list: what has its name first. Nothing else is read, neither before nor behind it.
///
/// Whether it counts is known when all has been read: this is no check of anything.
pub(crate) fn namespaces(config: &[u8]) -> Option<Vec<Namespace>> {
    const NAME: &[u8] = br#""namespaces""#;
    // Where engines have it in far larger ones, too.
    const MOST: usize = 256 << 10;
    let config = config.get(..MOST).unwrap_or(config);
    // A text that has the name in quotation marks has a backslash before the last of them.
    let at = config.windows(NAME.len()).position(|part| part == NAME)?;
    let value = config.get(at + NAME.len()..)?.trim_ascii_start();
    let value = value.strip_prefix(b":")?;
    let mut json = serde_json::Deserializer::from_slice(value);
    Vec::deserialize(&mut json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{default_spec, to_json};

    #[test]
    fn the_list_is_found_by_its_name() {
        let written = to_json(&default_spec());
        let spec = crate::spec::parse(written.as_bytes()).unwrap();
        let found = namespaces(written.as_bytes());
        assert_eq!(found.as_deref(), Some(spec.namespaces()));
        let spaced = br#"{"linux": {"namespaces" : [{"type": "network", "path": "/n"}]}}"#;
        let found = namespaces(spaced).unwrap();
        let path = found.first().and_then(|one| one.path.as_deref());
        assert_eq!((found.len(), path), (1, Some("/n")));
    }

    #[test]
    fn a_text_with_the_name_is_not_taken_for_it() {
        let text = r#"{"annotations": {"a": "\"namespaces\": [{\"type\": \"uts\"}]"}}"#;
        assert_eq!(namespaces(text.as_bytes()), None);
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
            "{}",
            r#"{"linux": {"namespaces"#,
            r#"{"linux": {"namespaces""#,
            r#"{"linux": {"namespaces": null}}"#,
            r#"{"linux": {"namespaces": [{"type": "web"}]}}"#,
            r#"{"linux": {"namespaces": {"type": "pid"}}}"#,
            r#"{"linux": ["namespaces", [{"type": "pid"}]]}"#,
        ] {
            assert_eq!(namespaces(config.as_bytes()), None, "{config}");
        }
    }
}
