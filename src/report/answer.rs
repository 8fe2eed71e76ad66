//! The answer at the top of a page: how many of how many, in which time, how old the states are.

use crate::human;
use crate::report::document::{Purpose, ReportDocument, RunEnd};
use crate::report::rows::RowStanding;
use std::time::Duration;

/// The answer in words, and whether it is a good one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RunAnswer {
    pub headline: String,
    /// The judgement of the run: that of its worst database, or worse.
    pub standing: RowStanding,
    /// The judgement in a few words.
    pub badge: String,
    /// Whole sentences: the time, the ages.
    pub sentences: Vec<String>,
}

impl Purpose {
    /// What a database with a result is or was, in the plural.
    pub(super) const fn done(self) -> &'static str {
        match self {
            Self::Restore => "were restored",
            Self::Plan => "can be restored",
            Self::Verify => "are restorable",
            Self::Bench => "were measured",
        }
    }

    /// The heading over `count` failed databases.
    pub(super) fn failed_heading(self, count: u64) -> String {
        let what = match self {
            Self::Restore if count == 1 => "was not restored",
            Self::Restore => "were not restored",
            Self::Plan => "cannot be restored",
            Self::Verify => "did not pass",
            Self::Bench => "failed",
        };
        format!("{} {what}", human::count(count, "database"))
    }
}

impl RunAnswer {
    pub(super) fn of(document: &ReportDocument<'_>) -> Self {
        let ReportDocument { end, tally, .. } = document;
        let RunEnd { run, not_reached, .. } = end;
        let count = |standing| tally.count(standing);
        // A stale state can be had, although it does not pass.
        let stale = tally.words.get("stale").copied().unwrap_or(0);
        let done = count(RowStanding::Good) + count(RowStanding::Degraded) + stale;
        let all = tally.databases() + not_reached;
        let (bad, degraded, skipped) =
            (count(RowStanding::Bad), count(RowStanding::Degraded), count(RowStanding::Skipped));
        let what = run.purpose.done();
        let singular = what.replace("were ", "was ").replace("are ", "is ");
        let headline = match (done, all) {
            (_, 0) => "No database was found".to_owned(),
            (1, 1) => format!("The database {singular}"),
            (done, all) if done == all => format!("All {} databases {what}", human::thousands(all)),
            (0, all) => format!("None of {} {what}", human::count(all, "database")),
            (done, all) => format!("{} of {} {what}", human::thousands(done), human::count(all, "database")),
        };
        let headline = match stale {
            0 => headline,
            1 if all == 1 => format!("{headline}, but older than allowed"),
            _ if stale == done => format!("{headline}, but all of these are older than allowed"),
            _ => format!("{headline}, but {} older than allowed", human::thousands(stale)),
        };
        let mut badges = Vec::new();
        if end.listing_error.is_some() {
            badges.push("not all databases are known".to_owned());
        }
        match run.purpose {
            // A drill has words of its own for what fails it.
            Purpose::Verify => {
                let failing = tally.by_word().filter(|(word, _)| matches!(*word, "stale" | "not restorable"));
                badges.extend(failing.map(|(word, count)| format!("{} {word}", human::thousands(count))));
            }
            _ if bad > 0 => badges.push(format!("{} failed", human::thousands(bad))),
            _ => {}
        }
        if *not_reached > 0 {
            badges.push(format!("{} not reached", human::thousands(*not_reached)));
        }
        let is_bad = !badges.is_empty() || tally.not_newest > 0 || run.interrupted_by.is_some() || all == 0;
        if let Some(signal) = &run.interrupted_by {
            badges.push(format!("interrupted by {signal}"));
        }
        if tally.not_newest > 0 {
            badges.push(format!("{} not the newest state", human::thousands(tally.not_newest)));
        }
        if degraded > tally.not_newest {
            badges.push(format!("{} around damage", human::thousands(degraded - tally.not_newest)));
        }
        if badges.is_empty() {
            badges.push(if all == 0 { "nothing to report" } else { "no failures" }.to_owned());
        }
        if skipped > 0 {
            badges.push(format!("{} skipped", human::thousands(skipped)));
        }
        let standing = match (is_bad, degraded) {
            (true, _) => RowStanding::Bad,
            (false, 1..) => RowStanding::Degraded,
            (false, 0) => RowStanding::Good,
        };
        Self { headline, standing, badge: badges.join(", "), sentences: sentences(document) }
    }
}

fn sentences(document: &ReportDocument<'_>) -> Vec<String> {
    let ReportDocument { end, milestones, ages, .. } = document;
    let mut all = Vec::new();
    if let Some(error) = &end.listing_error {
        all.push(format!("The listing of the databases has failed: {error}."));
    }
    let took = seconds(end.run.seconds);
    all.push(match milestones {
        Some(m) if m.databases > 1 => format!(
            "It took {took}: the first database was done after {}, half of them after {}, 99 % after {}, all after {}.",
            seconds(m.first_seconds),
            seconds(m.half_seconds),
            seconds(m.p99_seconds),
            seconds(m.all_seconds)
        ),
        _ => format!("It took {took}."),
    });
    if let Some(q) = ages.quantiles {
        let reference = shown_time(&ages.reference);
        all.push(match ages.databases {
            1 => format!("Its state is {} old, measured from {reference}.", human::age(q.max)),
            _ if human::age(q.min) == human::age(q.max) => {
                format!("The states are {} old, measured from {reference}.", human::age(q.max))
            }
            _ => format!(
                "The states are {} to {} old, half of them at most {}, measured from {reference}.",
                human::age(q.min),
                human::age(q.max),
                human::age(q.p50)
            ),
        });
        if ages.older_than_a_day > 0 && ages.databases > 1 {
            let (older, verb) = (ages.older_than_a_day, if ages.older_than_a_day == 1 { "is" } else { "are" });
            all.push(format!("{} {verb} older than a day.", human::count(older, "state")));
        }
    }
    all
}

/// A time in RFC 3339 and UTC for people: `2026-01-31 12:00:00 UTC`.
pub(super) fn shown_time(time: &str) -> String {
    match time.strip_suffix('Z') {
        Some(utc) => format!("{} UTC", utc.replacen('T', " ", 1)),
        None => time.to_owned(),
    }
}

/// A number of seconds for people.
pub(super) fn seconds(seconds: f64) -> String {
    human::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::{RunInfo, ShownRows};
    use crate::report::rows::DatabaseRow;
    use crate::report::tally::Tally;

    fn answer(good: u64, degraded: u64, bad: u64, skipped: u64, end: RunEnd) -> RunAnswer {
        let mut tally = Tally::default();
        let all = [
            (RowStanding::Good, good, "restored"),
            (RowStanding::Degraded, degraded, "restored"),
            (RowStanding::Bad, bad, "failed"),
            (RowStanding::Skipped, skipped, "skipped"),
        ];
        for (standing, n, outcome) in all {
            for i in 0..n {
                let age_seconds = (standing == RowStanding::Good).then_some(i * 60);
                let row = DatabaseRow { outcome, standing, age_seconds, ..DatabaseRow::default() };
                tally.add(&row, Duration::from_secs(i + 1));
            }
        }
        let (milestones, ages) = (tally.milestones(), tally.ages("2026-01-31T12:00:00Z".to_owned()));
        let rows = ShownRows::default();
        RunAnswer::of(&ReportDocument { end: &end, tally: &tally, milestones, ages, rows: &rows })
    }

    fn end(purpose: Purpose, not_reached: u64) -> RunEnd {
        RunEnd { run: RunInfo { purpose, seconds: 125.0, ..RunInfo::default() }, not_reached, ..RunEnd::default() }
    }

    #[test]
    fn answers() {
        let said = |answer: RunAnswer| (answer.headline, answer.badge, answer.standing);
        let text = |a: &str, b: &str, standing| (a.to_owned(), b.to_owned(), standing);
        for (numbers, purpose, headline, badge, standing) in [
            ((0, 0, 0, 0), Purpose::Restore, "No database was found", "nothing to report", RowStanding::Bad),
            ((1, 0, 0, 0), Purpose::Restore, "The database was restored", "no failures", RowStanding::Good),
            ((2000, 0, 0, 0), Purpose::Plan, "All 2,000 databases can be restored", "no failures", RowStanding::Good),
            (
                (5, 0, 0, 1),
                Purpose::Bench,
                "5 of 6 databases were measured",
                "no failures, 1 skipped",
                RowStanding::Good,
            ),
            ((0, 0, 3, 0), Purpose::Restore, "None of 3 databases were restored", "3 failed", RowStanding::Bad),
            ((5, 2, 0, 0), Purpose::Verify, "All 7 databases are restorable", "2 around damage", RowStanding::Degraded),
            (
                (5, 2, 1, 0),
                Purpose::Restore,
                "7 of 8 databases were restored",
                "1 failed, 2 around damage",
                RowStanding::Bad,
            ),
        ] {
            let (good, degraded, bad, skipped) = numbers;
            let found = said(answer(good, degraded, bad, skipped, end(purpose, 0)));
            assert_eq!(found, text(headline, badge, standing));
        }
        let mut interrupted = end(Purpose::Restore, 4);
        interrupted.run.interrupted_by = Some("SIGINT".to_owned());
        assert_eq!(
            said(answer(3, 0, 0, 0, interrupted)),
            text("3 of 7 databases were restored", "4 not reached, interrupted by SIGINT", RowStanding::Bad)
        );
    }

    #[test]
    fn stale_states_can_be_had() {
        let headline = |rows: &[(RowStanding, &'static str, u64)]| {
            let mut tally = Tally::default();
            for (standing, verdict, count) in rows {
                let row = DatabaseRow { verdict, standing: *standing, ..DatabaseRow::default() };
                (0..*count).for_each(|_| tally.add(&row, Duration::ZERO));
            }
            let (end, rows) = (end(Purpose::Verify, 0), ShownRows::default());
            let (milestones, ages) = (tally.milestones(), tally.ages(String::new()));
            let answer = RunAnswer::of(&ReportDocument { end: &end, tally: &tally, milestones, ages, rows: &rows });
            assert_eq!(answer.standing, RowStanding::Bad);
            answer.headline
        };
        let (good, stale) = ((RowStanding::Good, "restorable", 3), (RowStanding::Bad, "stale", 2));
        let lost = (RowStanding::Bad, "not restorable", 1);
        assert_eq!(headline(&[good, stale]), "All 5 databases are restorable, but 2 older than allowed");
        assert_eq!(headline(&[good, stale, lost]), "5 of 6 databases are restorable, but 2 older than allowed");
        assert_eq!(
            headline(&[stale, lost]),
            "2 of 3 databases are restorable, but all of these are older than allowed"
        );
        let one = (RowStanding::Bad, "stale", 1);
        assert_eq!(headline(&[one]), "The database is restorable, but older than allowed");
    }

    #[test]
    fn times_and_ages_are_sentences() {
        let sentences = answer(3, 0, 0, 0, end(Purpose::Restore, 0)).sentences;
        assert_eq!(
            sentences,
            [
                "It took 2m05s: the first database was done after 1.0 s, half of them after 2.0 s, 99 % after 3.0 s, \
                 all after 3.0 s.",
                "The states are 0 seconds to 2 minutes old, half of them at most 1 minute, measured from 2026-01-31 12:00:00 UTC.",
            ]
        );
    }
}
