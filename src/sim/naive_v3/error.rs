//! The error of the naive restorer.

/// Why a replica cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {text}")]
pub struct NaiveV3Error {
    /// The class of the failure, such as `hole` (docs/FORMAT-V3.md, "Failure classes").
    pub class: &'static str,
    /// What is wrong, with the file and the place in it where they are known.
    pub text: String,
}

impl NaiveV3Error {
    /// Puts `place`, such as the key of a file, before the text.
    pub(super) fn within(self, place: &str) -> Self {
        Self { text: format!("{place}: {}", self.text), ..self }
    }
}

pub(super) fn fail<T>(class: &'static str, text: impl Into<String>) -> Result<T, NaiveV3Error> {
    Err(NaiveV3Error { class, text: text.into() })
}
