//! Formats text tables with two spaces between the columns.

/// How the cells of a text table are aligned in their columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// All columns to the left. The last column is not padded with spaces.
    Left,
    /// The first column to the left, all others to the right, because they hold numbers.
    Numbers,
}

/// Returns the table's rows as lines. Each column is as wide as its longest cell.
pub fn aligned<const N: usize>(rows: &[[String; N]], align: Align) -> Vec<String> {
    let widths: [usize; N] = std::array::from_fn(|i| {
        rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(i, (cell, width))| match align {
            Align::Left if i + 1 == N => cell.clone(),
            Align::Numbers if i > 0 => format!("{cell:>width$}"),
            Align::Left | Align::Numbers => format!("{cell:<width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alignments() {
        let rows = [["a", "bb", "c"], ["long", "1", "22"], ["é", "", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows, Align::Left), ["a     bb  c", "long  1   22", "é         "]);
        assert_eq!(aligned(&rows, Align::Numbers), ["a     bb   c", "long   1  22", "é           "]);
    }
}
