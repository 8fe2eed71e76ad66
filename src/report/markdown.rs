//! The report in short, as Markdown for tickets: the answer, the numbers, the first failures.
//!
//! Whatever comes from a bucket is put into code spans, in which nothing is interpreted: no markup, no mention of a
//! person, no reference to another ticket, no address.

use crate::error::escaped;
use crate::human;
use crate::report::answer::{RunAnswer, seconds, shown_time};
use crate::report::document::ReportDocument;
use crate::report::rows::{DatabaseRow, RowStanding};
use crate::report::timeline::Interval;

/// At most 50 failures are shown, and 50 databases with damage. Tickets have a limit, and so have their readers.
pub(super) const MOST_SHOWN: usize = 50;
/// At most 4 notes of a database are shown.
const MOST_NOTES: usize = 4;
/// A reason or a note is cut after 500 characters.
const LONGEST_REASON: usize = 500;

/// The text.
pub(super) fn text(document: &ReportDocument<'_>) -> String {
    let ReportDocument { end, tally, rows, .. } = document;
    let answer = RunAnswer::of(document);
    let run = &end.run;
    let mut out = format!("## {}\n\n**{}**\n\n", answer.headline, answer.badge);
    for sentence in &answer.sentences {
        out.push_str(&plain(sentence));
        out.push('\n');
    }
    out.push_str("\n| | |\n|---|---|\n");
    let mut line = |name: &str, value: String| out.push_str(&format!("| {name} | {value} |\n"));
    line("databases", human::thousands(tally.databases() + end.not_reached));
    tally.by_word().for_each(|(word, count)| line(word, human::thousands(count)));
    if end.not_reached > 0 {
        line("not reached", human::thousands(end.not_reached));
    }
    line("time", seconds(run.seconds));
    if let Some(m) = document.milestones {
        let marks = [m.first_seconds, m.half_seconds, m.p99_seconds, m.all_seconds].map(seconds);
        line("first / half / 99 % / all", marks.join(" / "));
    }
    if let Some(q) = document.ages.quantiles {
        line("oldest state", human::age(q.max));
        line("older than a day", human::thousands(document.ages.older_than_a_day));
    }
    if tally.bytes > 0 {
        line("databases' size", human::bytes(tally.bytes));
    }
    let sum = |of: fn(&Interval) -> u64| end.timeline.iter().map(of).sum::<u64>();
    let (requests, throttled) = (sum(|i| i.requests), sum(|i| i.throttled));
    if requests > 0 {
        let repeated = human::thousands(end.requests_repeated);
        line("requests", format!("{} ({repeated} repeated, {throttled} throttled)", human::thousands(requests)));
    }
    if let Some(forecast) = &end.forecast {
        let times = [forecast.half_seconds, forecast.all_seconds].map(seconds).join(" / ");
        line("forecast, half / all", format!("{times}, held back by {}", forecast.limited_by));
    }
    line("host", code_in_table(&run.host.name));
    line("started, ended", format!("{}, {}", shown_time(&run.started), shown_time(&run.ended)));
    line("command", code_in_table(&run.command_line));
    if let Some(again) = &run.again {
        line("failures again", code_in_table(again));
    }
    line("version", format!("Hydrant {}", run.version));
    for extra in &end.extras {
        out.push_str(&format!("\n### {}\n\n| {} |\n", extra.title, extra.header.join(" | ")));
        out.push_str(&format!("|{}\n", "---|".repeat(extra.header.len())));
        extra.rows.iter().for_each(|row| out.push_str(&format!("| {} |\n", row.join(" | "))));
    }
    let failed = tally.count(RowStanding::Bad);
    if failed > 0 {
        out.push_str(&format!("\n### {}\n\n", run.purpose.failed_heading(failed)));
        if !tally.classes.is_empty() {
            let classes = tally.classes.iter().map(|(class, count)| format!("{count} {class}"));
            out.push_str(&format!("By class: {}.\n\n", classes.collect::<Vec<_>>().join(", ")));
        }
        rows.failures.iter().take(MOST_SHOWN).for_each(|row| out.push_str(&failure(row)));
        let more = failed.saturating_sub(rows.failures.len().min(MOST_SHOWN) as u64);
        if more > 0 {
            out.push_str(&format!("\nand {} more.\n", human::thousands(more)));
        }
    }
    let degraded = tally.count(RowStanding::Degraded);
    if degraded > 0 {
        out.push_str(&format!("\n### {} with damage in the backup\n\n", human::count(degraded, "database")));
        let shown = rows.others.iter().filter(|row| row.standing == RowStanding::Degraded).take(MOST_SHOWN);
        let shown: Vec<String> = shown.map(damaged).collect();
        let more = degraded.saturating_sub(shown.len() as u64);
        out.push_str(&shown.concat());
        if more > 0 {
            out.push_str(&format!("\nand {} more.\n", human::thousands(more)));
        }
    }
    out
}

fn damaged(row: &DatabaseRow) -> String {
    let place = row.timestamp.as_ref().map_or_else(String::new, |time| format!(" ({})", shown_time(time)));
    let notes = row.notes().into_iter().take(MOST_NOTES).map(|note| format!("  - {}\n", code(&shortened(note))));
    format!("- {}: {}{place}\n{}", code(&row.name), row.word(), notes.collect::<String>())
}

/// The first 500 characters.
fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_REASON).collect()
}

fn failure(row: &DatabaseRow) -> String {
    let reason = shortened(row.reason.as_deref().unwrap_or_default());
    let mut out = format!("- {}: {}\n", code(&row.name), code(&reason));
    let commands = row.command.iter().chain(row.newest_intact.iter().filter_map(|intact| intact.command.as_ref()));
    commands.for_each(|command| out.push_str(&format!("  - {}\n", code(command))));
    out
}

/// `text` as a code span: between more backticks in a row than it holds itself.
fn code(text: &str) -> String {
    let text = escaped(text);
    let (mut run, mut longest) = (0, 0);
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    // Spaces at both ends are taken away again, and are needed beside a backtick. A code span is never empty.
    let space = if text.is_empty() || text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// The same in a cell of a table, where a `|` would end the cell even within a code span.
fn code_in_table(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// Text in which nothing is markup: every mark of Markdown is escaped.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in escaped(text).chars() {
        if "\\`*_{}[]<>#|~@&".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        assert_eq!(code("a.db"), "`a.db`");
        assert_eq!(code("`x` ``y``"), "``` `x` ``y`` ```");
        assert_eq!(code(""), "`  `");
        assert_eq!(code(" a"), "`  a `");
        assert_eq!(code("<img src=x onerror=alert(1)>\n@all #1"), "`<img src=x onerror=alert(1)>\\n@all #1`");
        assert_eq!(code_in_table("a|b"), "`a\\|b`");
        assert_eq!(plain("<b> [x](y) *z* @all \u{202e}"), "\\<b\\> \\[x\\](y) \\*z\\* \\@all \\\\u\\{202e\\}");
    }
}
