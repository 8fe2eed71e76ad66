//! "Did you mean": the known word nearest to one that was mistyped.

/// The candidate within a third of `word`'s length of it, by edits; the first in byte order
/// where several are as near. Words beyond 64 characters are nobody's typing error.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > 64 {
        return None;
    }
    let allowed = (length / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && candidate.chars().count() > *distance)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        // (row above and to the left, what was last written)
        let (mut diagonal, mut left) = (i, i + 1);
        for (cell, &cb) in row.iter_mut().skip(1).zip(&b) {
            let up = *cell;
            let best = (diagonal + usize::from(ca != cb)).min(up + 1).min(left + 1);
            diagonal = up;
            left = best;
            *cell = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crate::cli::ui::suggest::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        let words = ["restore", "restore-pattern", "ltx", "help"];
        assert_eq!(nearest("restor", words.into_iter()), Some("restore"));
        assert_eq!(nearest("restore-patern", words.into_iter()), Some("restore-pattern"));
        assert_eq!(nearest("lxt", ["ltx"].into_iter()), None);
        assert_eq!(nearest("ltxx", words.into_iter()), Some("ltx"));
        assert_eq!(nearest("replicate", words.into_iter()), None);
        assert_eq!(nearest(&"x".repeat(100_000), words.into_iter()), None);
    }
}
