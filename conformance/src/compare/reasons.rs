//! Why Corten's containers see something else than runc's: the page that people read too.

/// Its last section has a table of places.
const PAGE: &str = include_str!("../../../docs/differences.md");

/// Begins that section.
const HEADING: &str = "## What a container sees";

/// The reason for Corten's value at this place, if the page has one.
pub(super) fn of(place: &str, value: &str) -> Option<&'static str> {
    let mut rows = rows();
    let row = rows.find(|row| fits(row.place, place) && fits(row.value, value))?;
    Some(row.why)
}

/// A row of the table: a place and Corten's value there, in both of which `*` is any text.
struct Row {
    place: &'static str,
    value: &'static str,
    why: &'static str,
}

fn rows() -> impl Iterator<Item = Row> {
    let section = PAGE.split_once(HEADING).map_or("", |(_, section)| section);
    section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let mut next = || cells.next().map(|cell| cell.trim_matches(['`', '|', ' ']));
        Some(Row {
            place: next()?,
            value: next()?,
            why: next()?,
        })
    })
}

fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(start) else {
        return false;
    };
    let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    ends.any(|at| fits(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        assert!(fits("mounts /proc/* options", "mounts /proc/keys options"));
        assert!(fits("*", ""));
        assert!(!fits("mounts * options", "mounts /proc options too"));
        assert!(!fits("fds", "fds 0"));
    }

    #[test]
    fn the_page_has_a_table_of_places() {
        assert!(rows().count() > 5);
        for row in rows() {
            assert!(
                !row.place.is_empty() && !row.why.is_empty(),
                "{}",
                row.place
            );
        }
        assert!(of("signals ignored", "[]").is_some());
        assert!(of("umask", "1").is_none());
    }
}
