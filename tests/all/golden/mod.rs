//! What scripts read, pinned to the letter: every key, its order and its type, and every fixed word
//! of what the commands print, log and write to files. The pinned texts are in
//! `tests/fixtures/golden`; `HYDRANT_GOLDEN=write cargo test --test all golden::` writes them anew.
//!
//! `single`, `pattern`, `adverse`, `config` and `bench` run the program on the replicas of
//! `replicas`. `books`, `words` and `texts` ask the library for what is hard to provoke in a run.
//! `support` runs the program and compares; `normal` replaces what differs from run to run;
//! `diff` shows what has changed.

/// All variants of an enum without fields. A variant that is missing here does not compile.
macro_rules! every {
    ($kind:ident: $($variant:ident),+ $(,)?) => {{
        let _all_named = |one: $kind| match one {
            $($kind::$variant => {})+
        };
        [$($kind::$variant),+]
    }};
}

/// The texts of an enum of errors, its variants with their fields. A variant that is missing here
/// does not compile.
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
