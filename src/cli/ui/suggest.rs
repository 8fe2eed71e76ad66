//! Suggestions for mistyped commands and flags ("did you mean …").

/// Returns the candidate with the smallest Levenshtein distance (number of edits) to the mistyped `word`. Of
/// several with the same distance, the first in byte order is taken.
///
/// The distance may be at most a third of `word`'s length, but at least 1 and at most 3 edits are allowed.
/// Returns None if no candidate is that near. A word of more than 64 characters has no suggestion: it is not a
/// typing error, and a comparison takes time in proportion to its length.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > 64 {
        return None;
    }
    let allowed = (length / 3).clamp(1, 3);
    candidates
        .map(|candidate| (strsim::levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && candidate.chars().count() > *distance)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use crate::cli::ui::suggest::nearest;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["restore", "restore-pattern", "ltx", "help"];
        assert_eq!(nearest("restor", words.into_iter()), Some("restore"));
        assert_eq!(nearest("restore-patern", words.into_iter()), Some("restore-pattern"));
        assert_eq!(nearest("lxt", ["ltx"].into_iter()), None);
        assert_eq!(nearest("ltxx", words.into_iter()), Some("ltx"));
        assert_eq!(nearest("replicate", words.into_iter()), None);
        assert_eq!(nearest("b", ["bc", "ba"].into_iter()), Some("ba"));
        assert_eq!(nearest("x", ["y"].into_iter()), None, "all of a word is no typing error");
        assert_eq!(nearest(&"x".repeat(100_000), words.into_iter()), None);
    }
}
