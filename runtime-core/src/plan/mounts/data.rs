//! What a file system is told: its options, and how they get to it.
//!
//! fsconfig(2) takes one option after the other, but no value of more than 255 bytes. A
//! longer one, and a comma in a value, go the old way: one text of all options for
//! mount(2). Only overlay knows a third, its lower layers one by one.

use crate::plan::PlanError;
use crate::plan::options;

/// Longest value that `fsconfig(2)` takes.
const FSCONFIG_MAX: usize = 255;
/// Longest text of options that `mount(2)` takes: a page with its NUL.
const MOUNT_MAX: usize = 4095;

/// How the options of a file system get to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// One by one, by `fsconfig(2)`.
    OneByOne(Vec<String>),
    /// As one text, and `MS_*`, by `mount(2)`.
    AsText(String, u64),
}

/// Chooses the way. `layers`: overlay takes its lower layers one by one.
pub(super) fn way(
    kind: &str,
    source: &str,
    words: &[String],
    layers: bool,
    origin: &str,
) -> Result<Way, PlanError> {
    let mut single = Vec::new();
    for word in words {
        match word.strip_prefix("lowerdir=") {
            _ if fits(word) => single.push(unquoted(word)),
            Some(lower) if kind == "overlay" && layers => match split(lower) {
                Some(words) => single.extend(words),
                None => return as_text(words, origin),
            },
            _ => return as_text(words, origin),
        }
    }
    if source.len() > FSCONFIG_MAX {
        return as_text(words, origin);
    }
    Ok(Way::OneByOne(single))
}

/// Whether an option has lower layers that don't fit into one value.
pub(crate) fn has_long_layers(word: &str) -> bool {
    word.starts_with("lowerdir=") && !fits(word)
}

fn as_text(words: &[String], origin: &str) -> Result<Way, PlanError> {
    let mut flags = options::Change::default();
    let mut text = Vec::new();
    for word in words {
        match options::superblock_flag(word) {
            Some(change) => flags.add(change),
            None => text.push(word.as_str()),
        }
    }
    let text = text.join(",");
    if text.len() > MOUNT_MAX {
        let what = format!("{} bytes, the kernel takes {MOUNT_MAX}", text.len());
        return Err(PlanError::value(format!("{origin}.options"), what));
    }
    Ok(Way::AsText(text, flags.set))
}

/// Whether fsconfig(2) takes it: a comma that is quoted is only the list's.
fn fits(word: &str) -> bool {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let quoted = inside_quotes(value);
    let comma = quoted.is_none() && value.contains(',');
    let value = quoted.unwrap_or(value);
    key.len() <= FSCONFIG_MAX && value.len() <= FSCONFIG_MAX && !comma
}

/// The option without the quotes around its value.
fn unquoted(word: &str) -> String {
    match word.split_once('=') {
        Some((key, value)) => format!("{key}={}", inside_quotes(value).unwrap_or(value)),
        None => word.to_owned(),
    }
}

fn inside_quotes(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

/// Lower layers, `a:b::data`, as options of their own; none if one of them is too long. A
/// backslash keeps the character behind it from being a separator.
fn split(lower: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut layer = String::new();
    let mut data = false;
    let mut rest = lower.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => layer.extend(rest.next()),
            ':' => {
                words.push(option(data, &layer)?);
                layer.clear();
                // Behind two there are only layers of data.
                data |= rest.next_if_eq(&':').is_some();
            }
            other => layer.push(other),
        }
    }
    words.push(option(data, &layer)?);
    Some(words)
}

fn option(data: bool, layer: &str) -> Option<String> {
    let key = if data { "datadir+" } else { "lowerdir+" };
    let good = !layer.is_empty() && layer.len() <= FSCONFIG_MAX;
    good.then(|| format!("{key}={layer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_by_one(words: &[&str]) -> Way {
        Way::OneByOne(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn way_of(kind: &str, words: &[&str], layers: bool) -> Result<Way, PlanError> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        way(kind, "source", &words, layers, "mounts[0]")
    }

    fn text(text: &str, flags: u64) -> Way {
        Way::AsText(text.to_owned(), flags)
    }

    #[test]
    fn short_options_go_one_by_one_without_the_lists_quotes() {
        let words = [
            "size=1m",
            "context=\"a:b,c\"",
            "newinstance",
            "empty=",
            "odd=\"x",
        ];
        let found = way_of("tmpfs", &words, false).unwrap();
        let expected = [
            "size=1m",
            "context=a:b,c",
            "newinstance",
            "empty=",
            "odd=\"x",
        ];
        assert_eq!(found, one_by_one(&expected));
    }

    #[test]
    fn what_fsconfig_can_not_take_goes_as_text_with_all_the_others() {
        let long = format!("upperdir=/{}", "u".repeat(255));
        let found = way_of(
            "overlay",
            &["lowerdir=/l", "sync", "lazytime", "nolazytime", &long],
            true,
        )
        .unwrap();
        assert_eq!(found, text(&format!("lowerdir=/l,{long}"), 0x10));
        let found = way_of("overlay", &["lowerdir=/a\\,b", "workdir=/w"], false).unwrap();
        assert_eq!(found, text("lowerdir=/a\\,b,workdir=/w", 0));
        let exact = format!("upperdir={}", "u".repeat(255));
        assert_eq!(
            way_of("overlay", &[&exact], true).unwrap(),
            one_by_one(&[&exact])
        );
    }

    #[test]
    fn long_lower_layers_go_one_by_one_where_the_kernel_takes_them_so() {
        let (a, b) = (
            format!("/{}", "a".repeat(200)),
            format!("/{}", "b".repeat(200)),
        );
        let word = format!("lowerdir={a}:{b}:/c\\:d\\,e::/data:/more");
        let found = way_of("overlay", &[&word, "xino=off"], true).unwrap();
        let layers = [
            format!("lowerdir+={a}"),
            format!("lowerdir+={b}"),
            "lowerdir+=/c:d,e".to_owned(),
            "datadir+=/data".to_owned(),
            "datadir+=/more".to_owned(),
            "xino=off".to_owned(),
        ];
        assert_eq!(found, Way::OneByOne(layers.to_vec()));
        let found = way_of("overlay", &[&word, "xino=off"], false).unwrap();
        assert_eq!(found, text(&format!("{word},xino=off"), 0));
    }

    #[test]
    fn a_layer_that_is_too_long_or_empty_is_left_to_the_file_system() {
        for lower in [
            format!("lowerdir=/{}:/b", "a".repeat(256)),
            format!("lowerdir=:/{}", "b".repeat(255)),
        ] {
            assert_eq!(way_of("overlay", &[&lower], true).unwrap(), text(&lower, 0));
        }
    }

    #[test]
    fn more_than_a_page_of_text_is_refused() {
        let long = format!("lowerdir=/{}", "l".repeat(4095 - 10));
        assert_eq!(way_of("overlay", &[&long], false).unwrap(), text(&long, 0));
        let error = way_of("overlay", &[&format!("{long}l")], false).unwrap_err();
        let expected = "mounts[0].options: 4096 bytes, the kernel takes 4095";
        assert_eq!(error.to_string(), expected);
    }
}
