//! The answer to a query at one state of a database, for `hydrant find`.

use super::queries::first_row;
use super::{End, VerifiedState, VerifyScratch};
use crate::catalogue::Replica;
use crate::plan::Target;
use crate::restore::database::execute_plans;
use crate::restore::error::RestoreError;
use crate::restore::planner::Planner;
use crate::restore::workers::Worker;
use crate::store::Store;
use std::rc::Rc;

/// The answer to a query at one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateAnswer {
    /// The state.
    pub state: VerifiedState,
    /// The first row as text, or why there is none.
    pub row: Result<Vec<String>, String>,
}

/// Restores the state `target` to scratch, asks the query, and removes it again.
///
/// # Errors
/// As a restore's. A query that fails is an answer.
pub async fn answer_at(
    worker: &Rc<Worker>,
    store: &Store,
    path: &str,
    replica: Replica,
    target: Target,
    scratch: &VerifyScratch,
    sql: &str,
) -> Result<StateAnswer, RestoreError> {
    let mut planner = Planner::new(worker, store, path, Some(replica), target, None, None).await?;
    let create = |_| scratch.create().map(End::Scratch);
    let (plan, executed, end) = execute_plans(worker, &mut planner, create(true)?, create).await?;
    let path = match &end {
        End::Scratch(file) => file.path(),
        End::Nothing => None,
    };
    let Some(path) = path else { return Err(RestoreError::Internal { what: "a file to be asked has no name" }) };
    let state = planner.state_of(&plan, Some(&executed));
    let state = state.ok_or(RestoreError::Internal { what: "a plan has no files" })?;
    Ok(StateAnswer { state, row: first_row(worker, path, sql).await? })
}
