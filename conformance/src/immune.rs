//! Flaws that other runtimes had, and the checks that show that this one has none of them:
//! the page that people read too.

/// Its table has a row per case.
const PAGE: &str = include_str!("../../docs/immune.md");

/// Names of all checks of the page, each once.
pub(crate) fn checks() -> Vec<&'static str> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.rsplit(" | ").next());
    let mut names: Vec<&str> = cells
        .flat_map(|cell| cell.split('`'))
        .filter(|text| text.contains("::"))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_of_the_page_is_there() {
        let known: Vec<String> = crate::check::all().map(|check| check.path()).collect();
        assert!(checks().len() > 30);
        for name in checks() {
            assert!(known.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn every_case_has_a_check() {
        let cases = PAGE.lines().filter(|line| line.starts_with("| CVE"));
        assert!(cases.clone().count() > 15);
        for case in cases {
            assert!(case.contains("::"), "{case}");
        }
    }
}
