//! Compares everything that scripts read with stored texts: every key, its order and its type, and every fixed word
//! that the commands print, log and write to files. The stored texts are in `tests/fixtures/golden`.
//! `HYDRANT_GOLDEN=write cargo test --test all golden::` writes them anew.
//!
//! `single`, `pattern`, `adverse`, `config` and `bench` run the program on the replicas of `replicas`. `books`,
//! `words` and `texts` call the library for cases that are hard to provoke in a run. `support` runs the program and
//! compares. `normal` replaces values that differ from run to run. `diff` shows differences.

/// Lists all variants of an enum without fields. If a variant is missing in the list, the code does not compile.
macro_rules! every {
    ($kind:ident: $($variant:ident),+ $(,)?) => {{
        let _all_named = |one: $kind| match one {
            $($kind::$variant => {})+
        };
        [$($kind::$variant),+]
    }};
}

/// Makes the texts of an enum of errors from its variants with their fields. If a variant is missing, the code does
/// not compile.
macro_rules! texts {
    ($kind:ident, $shown:expr, { $($variant:ident { $($fields:tt)* }),+ $(,)? }) => {{
        #[allow(unreachable_patterns)]
        let _all_named = |one: &$kind| match one {
            $($kind::$variant { .. } => {})+
        };
        [$($kind::$variant { $($fields)* }),+].iter().map($shown).collect::<String>()
    }};
}

mod adverse;
mod bench;
mod books;
mod config;
mod diff;
mod normal;
mod pattern;
mod replicas;
mod single;
mod support;
mod texts;
mod words;
