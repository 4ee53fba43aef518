//! The table that `list` prints, aligned as runc aligns it.

/// Least width of a column with its padding, and the padding: what runc gives Go's tabwriter.
const LEAST: usize = 12;
const PADDING: usize = 3;

/// Rows to lines; the last column is as wide as it is.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        LEAST.max(widest + PADDING)
    };
    let widths: Vec<usize> = (1..N).map(|next| width(next - 1)).collect();
    let mut text = String::new();
    for row in rows {
        let mut widths = widths.iter();
        for cell in row {
            text += cell;
            let filled = cell.chars().count();
            let blanks = widths
                .next()
                .map_or(0, |width| width.saturating_sub(filled));
            text.extend(std::iter::repeat_n(' ', blanks));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_runcs_header() {
        let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
        assert_eq!(
            align(&[header]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
    }

    #[test]
    fn a_long_cell_widens_its_column() {
        let rows = [["ID", "PID", "X"], ["a-very-long-identifier", "é", "last"]];
        assert_eq!(
            align(&rows.map(|row| row.map(String::from))),
            "ID                       PID         X\n\
             a-very-long-identifier   é           last\n"
        );
    }
}
