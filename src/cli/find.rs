//! The command `hydrant find`: finds out when the answer to a query changed, by restoring states of a database to
//! scratch (docs/CLI.md, "hydrant find").

use super::restore::locate;
use super::verify::DrillScratch;
use crate::cancel::CancellationToken;
use crate::catalogue::Replica;
use crate::cli::args::resolved::{FindArgs, Source};
use crate::cli::args::shell::shell_word;
use crate::cli::session::Session;
use crate::cli::ui::failure::Failure;
use crate::cli::ui::human;
use crate::cli::ui::log::Log;
use crate::cli::ui::redact;
use crate::config::{Env, Location};
use crate::error::{Class, escaped, json_escaped};
use crate::plan::{Target, states};
use crate::restore::{RestoreError, StateAnswer, VerifyScratch, answer_at, list_replica, plan_database};
use crate::store::Store;
use crate::telemetry::Counters;
use crate::timestamp::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Restored states take as much of the scratch directory as they need: there is one at a time.
const SCRATCH_BYTES: u64 = 1 << 40;

/// Runs the command. Returns the text for stdout.
pub(super) fn run(args: &FindArgs, env: &Env<'_>, log: &Log, cancel: &CancellationToken) -> Result<String, Failure> {
    let (location, section) = locate(&args.source, &args.source_shown, env, log)?;
    let mut args = args.clone();
    args.common.use_defaults(&section);
    let args = &args;
    // Declared before the workers: they have stopped writing before the directory is removed.
    let scratch = DrillScratch::new(args.scratch.as_deref())?;
    let counters = Arc::new(Counters::default());
    let session = Session::open(&args.common, 1, true, &counters, log, cancel)?;
    let scratch_of_states = Arc::new(VerifyScratch::new(scratch.dir.clone(), SCRATCH_BYTES));
    let store = session.store(&location.store);
    let search = Search { args, session, store, location, scratch: scratch_of_states, log };
    let found = search.run();
    drop(search);
    drop(scratch);
    found
}

struct Search<'a> {
    args: &'a FindArgs,
    session: Session,
    store: Store,
    location: Location,
    scratch: Arc<VerifyScratch>,
    log: &'a Log,
}

/// Two neighbouring states with different answers.
struct Change {
    before: StateAnswer,
    after: StateAnswer,
}

/// The states of the database, and the answers that are known so far.
struct Answers {
    replica: Replica,
    states: Vec<Target>,
    known: BTreeMap<usize, StateAnswer>,
    asked: usize,
}

impl Search<'_> {
    fn run(&self) -> Result<String, Failure> {
        let replica = self.listed()?;
        let all = states(&replica);
        let range = self.range(&replica, &all)?;
        let states: Vec<Target> = all.get(range).unwrap_or_default().to_vec();
        let count = human::count(states.len() as u64, "state");
        self.log.info(&format!("{count} from the oldest to the newest in that time"));
        let mut answers = Answers { replica, states, known: BTreeMap::new(), asked: 0 };
        let changes = match self.args.all {
            true => self.all_changes(&mut answers)?,
            false => self.bisect(&mut answers)?.into_iter().collect(),
        };
        let text = match self.args.json {
            true => self.to_json(&changes, &answers),
            false => self.to_text(&changes),
        };
        if changes.is_empty() && !self.args.json {
            let row = answers.known.values().next().map_or_else(String::new, |answer| shown(&answer.row));
            let message = format!(
                "the answer is the same at the oldest and at the newest state: {row}{}",
                if self.args.all { "" } else { "; -all looks at the states between them" }
            );
            return Err(Failure::failed(Class::TargetNotReachable, message));
        }
        Ok(text)
    }

    fn listed(&self) -> Result<Replica, Failure> {
        let (store, path) = (self.store.clone(), self.location.path.clone());
        let listed = self.session.workers.run(move |worker| {
            Box::pin(async move {
                let listed = list_replica(&worker.http, &store, &path, &worker.shared.catalogue).await?;
                match listed.nothing {
                    Some(nothing) => Err(RestoreError::Nothing(nothing)),
                    None => Ok(listed.replica),
                }
            })
        });
        listed.ok_or_else(|| self.session.failure(None))?.map_err(|e| self.session.failure(Some(e)))
    }

    /// The part of `all` that `-from` and `-to` leave.
    fn range(&self, replica: &Replica, all: &[Target]) -> Result<std::ops::Range<usize>, Failure> {
        let first = self.args.from.map(|at| self.place(replica, all, at)).transpose()?;
        let last = self.args.to.map(|at| self.place(replica, all, at)).transpose()?;
        let range = first.unwrap_or(0)..last.map_or(all.len(), |last| last + 1);
        match range.is_empty() {
            true => Err(Failure::usage("-from is after -to")),
            false => Ok(range),
        }
    }

    /// The place in `all` of the newest state before a time.
    fn place(&self, replica: &Replica, all: &[Target], at: Timestamp) -> Result<usize, Failure> {
        if replica.files.is_empty() {
            let before = |state: &&Target| matches!(state, Target::Timestamp(time) if *time <= at);
            return Ok(all.iter().take_while(before).count().saturating_sub(1));
        }
        let (store, path, replica) = (self.store.clone(), self.location.path.clone(), replica.clone());
        let planned = self.session.workers.run(move |worker| {
            Box::pin(async move {
                plan_database(&worker, &store, &path, Some(replica), &Target::Timestamp(at), None, false).await
            })
        });
        let planned = planned.ok_or_else(|| self.session.failure(None))?.map_err(|e| self.session.failure(Some(e)))?;
        let reached = Target::Txid(planned.plan.txid);
        all.iter().position(|state| *state == reached).ok_or_else(|| Failure::internal("a planned state is no state"))
    }

    /// The answer at state `at`. None if the state cannot be had, because files are damaged or missing.
    fn answer(&self, answers: &mut Answers, at: usize) -> Result<Option<StateAnswer>, Failure> {
        if let Some(known) = answers.known.get(&at) {
            return Ok(Some(known.clone()));
        }
        let Some(&target) = answers.states.get(at) else { return Ok(None) };
        let (store, path, replica) = (self.store.clone(), self.location.path.clone(), answers.replica.clone());
        let (scratch, sql) = (Arc::clone(&self.scratch), self.args.sql.clone());
        let answer = self.session.workers.run(move |worker| {
            Box::pin(async move { answer_at(&worker, &store, &path, replica, target, &scratch, &sql).await })
        });
        answers.asked += 1;
        match answer {
            Some(Ok(answer)) => {
                self.log.info(&format!("{}: {}", state_text(&answer), shown(&answer.row)));
                answers.known.insert(at, answer.clone());
                Ok(Some(answer))
            }
            Some(Err(e)) if is_about_the_backup(&e) => {
                self.log.warn(&format!("a state was passed over: {e}"));
                Ok(None)
            }
            Some(Err(e)) => Err(self.session.failure(Some(e))),
            None => Err(self.session.failure(None)),
        }
    }

    /// Finds one change between the first and the last state. None if their answers are the same.
    fn bisect(&self, answers: &mut Answers) -> Result<Option<Change>, Failure> {
        let (mut low, mut high) = (0, answers.states.len().saturating_sub(1));
        let (mut before, mut after) =
            (self.first_answer(answers, &mut low, 1)?, self.first_answer(answers, &mut high, -1)?);
        if before.row == after.row {
            return Ok(None);
        }
        // This loop ends: each turn makes the range smaller, or removes a state from it.
        let mut passed_over = std::collections::BTreeSet::new();
        loop {
            let between: Vec<usize> = (low + 1..high).filter(|at| !passed_over.contains(at)).collect();
            let Some(&middle) = between.get(between.len() / 2) else { return Ok(Some(Change { before, after })) };
            match self.answer(answers, middle)? {
                None => {
                    passed_over.insert(middle);
                }
                Some(answer) if answer.row == before.row => (low, before) = (middle, answer),
                Some(answer) => (high, after) = (middle, answer),
            }
        }
    }

    /// The answer at state `at`, or at the next one in the direction of `step` that can be had.
    fn first_answer(&self, answers: &mut Answers, at: &mut usize, step: isize) -> Result<StateAnswer, Failure> {
        // This loop ends: `at` leaves the range of states.
        loop {
            if let Some(answer) = self.answer(answers, *at)? {
                return Ok(answer);
            }
            match at.checked_add_signed(step).filter(|next| *next < answers.states.len()) {
                Some(next) => *at = next,
                None => return Err(Failure::failed(Class::TargetNotReachable, "no state can be restored")),
            }
        }
    }

    fn all_changes(&self, answers: &mut Answers) -> Result<Vec<Change>, Failure> {
        let mut changes = Vec::new();
        let mut before: Option<StateAnswer> = None;
        for at in 0..answers.states.len() {
            let Some(after) = self.answer(answers, at)? else { continue };
            if let Some(before) = before.filter(|before| before.row != after.row) {
                changes.push(Change { before, after: after.clone() });
            }
            before = Some(after);
        }
        Ok(changes)
    }

    fn to_text(&self, changes: &[Change]) -> String {
        let mut text = String::new();
        for Change { before, after } in changes {
            text.push_str(&format!("changed after {}: {}\n", state_text(before), shown(&before.row)));
            text.push_str(&format!("           to {}: {}\n", state_text(after), shown(&after.row)));
            text.push_str(&format!("the state just before: {}\n", self.command(before)));
        }
        text
    }

    fn to_json(&self, changes: &[Change], answers: &Answers) -> String {
        let state = |answer: &StateAnswer| {
            let (v3, row) = (answer.state.v3, &answer.row);
            json!({
                "txid": v3.is_none().then(|| answer.state.txid.to_string()),
                "generation": v3.map(|v3| v3.generation.to_string()),
                "index": v3.map(|v3| v3.index),
                "offset": v3.map(|v3| v3.offset),
                "timestamp": answer.state.time.to_rfc3339_seconds(),
                "row": row.as_ref().ok(),
                "error": row.as_ref().err(),
            })
        };
        let changes: Vec<Value> = changes
            .iter()
            .map(|change| {
                json!({
                    "before": state(&change.before),
                    "after": state(&change.after),
                    "command": self.command(&change.before),
                })
            })
            .collect();
        let document = json!({
            "sql": self.args.sql,
            "changes": changes,
            "states": answers.states.len(),
            "restored": answers.asked,
        });
        format!("{}\n", json_escaped(format!("{document:#}")))
    }

    /// The command that restores a state.
    fn command(&self, answer: &StateAnswer) -> String {
        let target = match answer.state.v3 {
            Some(state) => format!("-timestamp {}", state.time),
            None => format!("-txid {}", answer.state.txid),
        };
        match &self.args.source {
            Source::Url(url) => {
                let name = Path::new(self.location.path.trim_end_matches('/')).file_name();
                let output = name.map_or_else(|| "restored.db".to_owned(), |name| name.to_string_lossy().into_owned());
                format!("hydrant restore {target} -o {} {}", shell_word(&output), shell_word(&redact::url(url)))
            }
            Source::Database { path, config } => {
                let output = format!("{}.before", path.display());
                let (config, path) = (config.path.to_string_lossy(), path.to_string_lossy());
                format!(
                    "hydrant restore {target} -config {} -o {} {}",
                    shell_word(&config),
                    shell_word(&output),
                    shell_word(&path)
                )
            }
        }
    }
}

fn is_about_the_backup(error: &RestoreError) -> bool {
    matches!(
        error,
        RestoreError::Plan(_)
            | RestoreError::File { .. }
            | RestoreError::Wal { .. }
            | RestoreError::Ahead { .. }
            | RestoreError::Chain { .. }
            | RestoreError::Unreadable { .. }
    )
}

/// A state in words: its TXID or position, and its time.
fn state_text(answer: &StateAnswer) -> String {
    let time = answer.state.time.to_rfc3339_seconds();
    match answer.state.v3 {
        Some(v3) => format!("index {:08x} offset {:08x} of generation {} ({time})", v3.index, v3.offset, v3.generation),
        None => format!("TXID {} ({time})", answer.state.txid),
    }
}

fn shown(row: &Result<Vec<String>, String>) -> String {
    match row {
        Ok(values) => escaped(&values.join(" | ")),
        Err(why) => escaped(why),
    }
}
